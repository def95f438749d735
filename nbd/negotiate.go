package nbd

import (
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/homeward-dr/homeward"
)

// negotiation is the handshake of one connection, of the server's side. One
// goroutine owns it.
type negotiation struct {
	server   *Server
	raw      net.Conn // as accepted
	conn     net.Conn // raw, or TLS over it
	in       *inbox
	secure   bool
	noZeroes bool

	structured bool
	contexts   []metaContext // as set for contextsOf
	contextsOf string
	unwatch    func() // says that the connection is closed
}

// run greets, answers options and returns the session the client chose, attached
// to its export; nil when there is none: then err says why, or is nil when the
// client left in good order.
func (n *negotiation) run() (*session, error) {
	n.in = newInbox(n.conn)
	var hello [18]byte
	be.PutUint64(hello[:], magicServer)
	be.PutUint64(hello[8:], magicOption)
	be.PutUint16(hello[16:], flagFixedNewstyle|flagNoZeroes)
	if _, err := n.conn.Write(hello[:]); err != nil {
		return nil, n.broken("greet", err)
	}
	p, err := n.in.head(4)
	if err != nil {
		return nil, quiet(n.broken("read client flags", err), err)
	}
	flags := be.Uint32(p)
	if flags&^uint32(flagFixedNewstyle|flagNoZeroes) != 0 {
		return nil, n.bad("unknown client flags %#x", flags)
	}
	n.noZeroes = flags&flagNoZeroes != 0
	for range maxOptions {
		sess, done, err := n.option()
		if sess != nil || done || err != nil {
			return sess, err
		}
	}
	return nil, n.bad("more than %d options", maxOptions)
}

// option reads and answers one option. done: the client ended the connection.
func (n *negotiation) option() (sess *session, done bool, err error) {
	p, err := n.in.head(optionSize)
	if err != nil {
		return nil, true, quiet(n.broken("read option", err), err)
	}
	magic, opt, size := be.Uint64(p), be.Uint32(p[8:]), be.Uint32(p[12:])
	if magic != magicOption {
		return nil, true, n.bad("option magic %#x", magic)
	}
	if size > maxOptionData {
		if opt == optExportName || size > 16*maxOptionData {
			return nil, true, n.bad("option %d with %d bytes", opt, size)
		}
		if err := n.in.discard(int(size)); err != nil {
			return nil, true, n.broken("read option", err)
		}
		return nil, false, n.refuse(opt, repErrTooBig, "option is too long")
	}
	data := make([]byte, size)
	if err := n.in.payload(data); err != nil {
		return nil, true, n.broken("read option", err)
	}
	if n.server.o.RequireTLS && !n.secure && opt != optStartTLS && opt != optAbort {
		if opt == optExportName {
			return nil, true, n.bad("client asks for an export before TLS")
		}
		return nil, false, n.refuse(opt, repErrTLSRequired, "TLS is required: connect with nbds")
	}
	switch opt {
	case optExportName:
		sess, err = n.exportName(string(data))
		return sess, true, err
	case optAbort:
		// The client may be gone already: it need not wait for the answer.
		_ = n.reply(opt, repAck, nil)
		return nil, true, nil
	case optGo, optInfo:
		sess, err = n.goOrInfo(opt, data)
		return sess, false, err
	}
	return nil, false, n.plainOption(opt, data)
}

// plainOption answers the options that cannot end the negotiation.
func (n *negotiation) plainOption(opt uint32, data []byte) error {
	switch opt {
	case optList:
		return n.list(data)
	case optStartTLS:
		return n.startTLS(data)
	case optStructuredReply:
		if len(data) != 0 {
			return n.refuse(opt, repErrInvalid, "option has no data")
		}
		n.structured = true
		return n.reply(opt, repAck, nil)
	case optListMetaContext, optSetMetaContext:
		return n.metaContext(opt, data)
	}
	return n.refuse(opt, repErrUnsupported, "")
}

// startTLS upgrades. What was negotiated in the clear is forgotten, and bytes
// that came in the clear after the option end the connection: they would
// otherwise be taken as said under TLS.
func (n *negotiation) startTLS(data []byte) error {
	switch {
	case len(data) != 0:
		return n.refuse(optStartTLS, repErrInvalid, "option has no data")
	case n.secure:
		return n.refuse(optStartTLS, repErrInvalid, "TLS is on already")
	case n.server.o.TLS == nil:
		return n.refuse(optStartTLS, repErrPolicy, "TLS is not configured here")
	case n.in.buffered() > 0:
		return n.bad("bytes in the clear follow STARTTLS")
	}
	if err := n.reply(optStartTLS, repAck, nil); err != nil {
		return err
	}
	secure := tls.Server(n.raw, n.server.o.TLS)
	if err := secure.Handshake(); err != nil {
		return homeward.Errorf("start TLS", homeward.Unauthentic, n.peer(), "check both sides' certificates", "%w", err)
	}
	if n.server.o.Watch != nil {
		n.unwatch = n.server.o.Watch(secure)
	}
	n.conn, n.in, n.secure = secure, newInbox(secure), true
	n.structured, n.contexts, n.contextsOf = false, nil, ""
	return nil
}

// reply sends one reply to an option.
func (n *negotiation) reply(opt, kind uint32, data []byte) error {
	p := make([]byte, optReplySize, optReplySize+len(data))
	be.PutUint64(p, magicOptReply)
	be.PutUint32(p[8:], opt)
	be.PutUint32(p[12:], kind)
	be.PutUint32(p[16:], uint32(len(data)))
	if _, err := n.conn.Write(append(p, data...)); err != nil {
		return n.broken("answer option", err)
	}
	return nil
}

func (n *negotiation) refuse(opt, kind uint32, why string) error {
	return n.reply(opt, kind, []byte(why))
}

func (n *negotiation) peer() string { return n.raw.RemoteAddr().String() }

func (n *negotiation) bad(format string, args ...any) error {
	return homeward.Errorf("negotiate with client", homeward.Invalid, n.peer(), "connect with an NBD client", format, args...)
}

func (n *negotiation) broken(op string, err error) error {
	return homeward.Errorf(op, homeward.Unavailable, n.peer(), "", "%w", err)
}

// quiet drops the error of a client that left between two options: port scans
// and health checks do.
func quiet(reported, cause error) error {
	if errors.Is(cause, io.EOF) {
		return nil
	}
	return reported
}

// lookup finds an export that this client may use.
func (n *negotiation) lookup(name string) (*served, error) {
	e, err := n.server.lookup(name)
	if err == nil {
		err = n.admit(e)
	}
	return e, err
}

func (n *negotiation) admit(e *served) error {
	if e.Admit == nil {
		return nil
	}
	var state *tls.ConnectionState
	if secure, is := n.conn.(*tls.Conn); is {
		cs := secure.ConnectionState()
		state = &cs
	}
	return e.Admit(state)
}

// session makes the transmission phase out of what was negotiated.
func (n *negotiation) session(e *served) (*session, error) {
	s := newSession(n, e)
	if err := e.attach(s); err != nil {
		return nil, err
	}
	return s, nil
}
