package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// remoteExport is what a server says about an export.
type remoteExport struct {
	size       int64
	flags      uint16
	minBlock   int64
	maxRequest int64             // of a read or write
	contexts   map[string]uint32 // id by name, as granted
	structured bool
}

// maxReplies bounds the replies to one option.
const maxReplies = 1024

// join is the client's side of a handshake. One goroutine owns it.
type join struct {
	o          *ClientOptions
	uri        URI
	conn       net.Conn
	in         *inbox
	structured bool
	noZeroes   bool
}

// dial connects and negotiates. The connection has no deadline when it returns.
//
// Errors: NotFound (no such export), InUse (the server admits nobody else now),
// Unauthentic (TLS), Unsupported, Unavailable, Timeout, Corrupt (not NBD).
func dial(ctx context.Context, o *ClientOptions, uri URI) (net.Conn, *inbox, remoteExport, error) {
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, uri.Network, uri.Address)
	if err != nil {
		return nil, nil, remoteExport{}, unreachable(uri, "connect", err)
	}
	tune(raw)
	// Ends the handshake when ctx does, also in the middle of a read.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	j := &join{o: o, uri: uri, conn: raw, in: newInbox(raw)}
	export, err := j.run()
	if !stop() {
		err = unreachable(uri, "negotiate", ctx.Err())
	}
	if err != nil {
		if w, is := j.conn.(guarded); is {
			w.stop()
		}
		_ = raw.Close()
		return nil, nil, remoteExport{}, err
	}
	return j.conn, j.in, export, nil
}

// unreachable is the error for a connection that cannot be had or broke.
func unreachable(uri URI, op string, err error) error {
	kind := homeward.Unavailable
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		kind = homeward.Timeout
	} else if errors.Is(err, context.Canceled) {
		kind = homeward.Canceled
	}
	return homeward.Errorf(op, kind, uri.String(), "check that the NBD server runs there and can be reached", "%w", err)
}

func (j *join) run() (remoteExport, error) {
	if err := j.greet(); err != nil {
		return remoteExport{}, err
	}
	if j.uri.TLS {
		if err := j.startTLS(); err != nil {
			return remoteExport{}, err
		}
	}
	kind, _, err := j.ask(optStructuredReply, nil, nil)
	if err != nil {
		return remoteExport{}, err
	}
	j.structured = kind == repAck
	contexts, err := j.setContexts()
	if err != nil {
		return remoteExport{}, err
	}
	e, err := j.choose()
	e.contexts, e.structured = contexts, j.structured
	return e, err
}

func (j *join) greet() error {
	p, err := j.in.head(18)
	if err != nil {
		return unreachable(j.uri, "read greeting", err)
	}
	if be.Uint64(p) != magicServer || be.Uint64(p[8:]) != magicOption {
		return j.corrupt("the greeting is not that of a newstyle NBD server")
	}
	flags := be.Uint16(p[16:])
	if flags&flagFixedNewstyle == 0 {
		return homeward.Errorf("negotiate", homeward.Unsupported, j.uri.String(), "update the server", "the server does not speak fixed newstyle")
	}
	mine := uint32(flags & (flagFixedNewstyle | flagNoZeroes))
	j.noZeroes = mine&flagNoZeroes != 0
	return j.write(be.AppendUint32(nil, mine))
}

func (j *join) startTLS() error {
	kind, text, err := j.ask(optStartTLS, nil, nil)
	if err != nil {
		return err
	}
	if kind != repAck {
		return homeward.Errorf("start TLS", homeward.Unauthentic, j.uri.String(), "configure TLS at the server", "the server refuses: %s", text)
	}
	if j.in.buffered() > 0 {
		return j.corrupt("bytes in the clear follow the answer to STARTTLS")
	}
	cfg := j.o.TLS.Clone()
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ServerName == "" && j.uri.Network == "tcp" {
		cfg.ServerName, _, _ = net.SplitHostPort(j.uri.Address) // ParseURI made it from both parts
	}
	secure := tls.Client(j.conn, cfg)
	if err := secure.Handshake(); err != nil {
		return homeward.Errorf("start TLS", homeward.Unauthentic, j.uri.String(), "check both sides' certificates", "%w", err)
	}
	j.conn, j.in = secure, newInbox(secure)
	if j.o.Watch != nil {
		j.conn = guarded{secure, j.o.Watch(secure)}
	}
	return nil
}

// guarded is a connection that says when it is closed.
type guarded struct {
	*tls.Conn
	stop func()
}

func (w guarded) Close() error {
	w.stop()
	return w.Conn.Close()
}

// setContexts asks for base:allocation and the contexts of the options.
func (j *join) setContexts() (map[string]uint32, error) {
	if !j.structured {
		return nil, nil
	}
	wanted := append([]string{ContextAllocation}, j.o.Contexts...)
	data := be.AppendUint32(nil, uint32(len(j.uri.Export)))
	data = append(data, j.uri.Export...)
	data = be.AppendUint32(data, uint32(len(wanted)))
	for _, name := range wanted {
		data = be.AppendUint32(data, uint32(len(name)))
		data = append(data, name...)
	}
	granted := map[string]uint32{}
	_, _, err := j.ask(optSetMetaContext, data, func(kind uint32, p []byte) error {
		if kind != repMetaContext || len(p) < 4 {
			return j.corrupt("reply %#x with %d bytes to SET_META_CONTEXT", kind, len(p))
		}
		if name := string(p[4:]); slices.Contains(wanted, name) {
			granted[name] = be.Uint32(p)
		}
		return nil
	})
	return granted, err // a refusal grants none; GO tells what is wrong with the export
}

// choose ends the negotiation with GO, or EXPORT_NAME where GO is unknown.
func (j *join) choose() (remoteExport, error) {
	e := remoteExport{size: -1, minBlock: 1, maxRequest: MaxRequest}
	data := be.AppendUint32(nil, uint32(len(j.uri.Export)))
	data = append(data, j.uri.Export...)
	data = be.AppendUint16(data, 1)
	data = be.AppendUint16(data, infoBlockSize)
	kind, text, err := j.ask(optGo, data, func(kind uint32, p []byte) error {
		if kind != repInfo || len(p) < 2 {
			return j.corrupt("reply %#x with %d bytes to GO", kind, len(p))
		}
		return j.info(&e, p)
	})
	switch {
	case err != nil:
		return e, err
	case kind == repErrUnsupported:
		return j.exportName(e)
	case kind != repAck:
		return e, j.refused(kind, text)
	case e.size < 0:
		return e, j.corrupt("the server did not tell the size of the export")
	}
	return e, nil
}

// info takes one piece of information about the export.
func (j *join) info(e *remoteExport, p []byte) error {
	switch kind := be.Uint16(p); {
	case kind == infoExport && len(p) == 12:
		size := be.Uint64(p[2:])
		if size > maxSize {
			return j.corrupt("export of %d bytes", size)
		}
		e.size, e.flags = int64(size), be.Uint16(p[10:])
	case kind == infoBlockSize && len(p) == 14:
		low, high := int64(be.Uint32(p[2:])), int64(be.Uint32(p[10:]))
		if low == 0 || low&(low-1) != 0 || low > 64<<10 || high < low {
			return j.corrupt("block sizes from %d to %d", low, high)
		}
		e.minBlock, e.maxRequest = low, min(high/low*low, MaxRequest)
	case kind == infoExport || kind == infoBlockSize:
		return j.corrupt("information %d with %d bytes", kind, len(p))
	}
	return nil
}

func (j *join) exportName(e remoteExport) (remoteExport, error) {
	if err := j.option(optExportName, []byte(j.uri.Export)); err != nil {
		return e, err
	}
	n := 10
	if !j.noZeroes {
		n += 124
	}
	p, err := j.in.head(n)
	if err != nil {
		return e, homeward.Errorf("choose export", homeward.NotFound, j.uri.String(), "check its name", "the server hung up: %w", err)
	}
	size := be.Uint64(p)
	if size > maxSize {
		return e, j.corrupt("export of %d bytes", size)
	}
	e.size, e.flags = int64(size), be.Uint16(p[8:])
	return e, nil
}

// refused maps a refusal of GO to an error.
func (j *join) refused(kind uint32, text string) error {
	refusal := func(k homeward.Kind, remedy string) error {
		if text == "" {
			text = "no reason given"
		}
		return homeward.Errorf("choose export", k, j.uri.String(), remedy, "the server refuses: %s", text)
	}
	switch kind {
	case repErrUnknown:
		return refusal(homeward.NotFound, "list the exports of the server (nbdinfo --list)")
	case repErrPolicy:
		return refusal(homeward.InUse, "end the other client, or use another export")
	case repErrTLSRequired:
		return refusal(homeward.Unauthentic, "connect with nbds and a certificate")
	case repErrShutdown:
		return refusal(homeward.Unavailable, "connect again when the server is back")
	}
	return refusal(homeward.Unsupported, "check the export and the version of the server")
}

// ask sends an option and reads its replies up to the final one, whose kind it
// returns: repAck or an error's, then with the server's text. each gets the
// replies before it.
func (j *join) ask(opt uint32, data []byte, each func(kind uint32, p []byte) error) (uint32, string, error) {
	if err := j.option(opt, data); err != nil {
		return 0, "", err
	}
	for range maxReplies {
		p, err := j.in.head(optReplySize)
		if err != nil {
			return 0, "", unreachable(j.uri, "negotiate", err)
		}
		magic, which, kind, size := be.Uint64(p), be.Uint32(p[8:]), be.Uint32(p[12:]), be.Uint32(p[16:])
		if magic != magicOptReply || which != opt || size > maxOptionData {
			return 0, "", j.corrupt("reply %#x to option %d with %d bytes", kind, which, size)
		}
		body := make([]byte, size)
		if err := j.in.payload(body); err != nil {
			return 0, "", unreachable(j.uri, "negotiate", err)
		}
		switch {
		case kind == repAck || kind&repError != 0:
			return kind, string(body[:min(len(body), MaxName)]), nil
		case each == nil:
			return 0, "", j.corrupt("reply %#x to option %d", kind, opt)
		}
		if err := each(kind, body); err != nil {
			return 0, "", err
		}
	}
	return 0, "", j.corrupt("more than %d replies to one option", maxReplies)
}

func (j *join) option(opt uint32, data []byte) error {
	p := make([]byte, optionSize, optionSize+len(data))
	be.PutUint64(p, magicOption)
	be.PutUint32(p[8:], opt)
	be.PutUint32(p[12:], uint32(len(data)))
	return j.write(append(p, data...))
}

func (j *join) write(p []byte) error {
	if _, err := j.conn.Write(p); err != nil {
		return unreachable(j.uri, "negotiate", err)
	}
	return nil
}

func (j *join) corrupt(format string, args ...any) error {
	return homeward.Errorf("negotiate", homeward.Corrupt, j.uri.String(), "check that an NBD server listens there", format, args...)
}
