package nbd

import (
	"github.com/homeward-dr/homeward"
)

// exportName answers the oldest way to choose an export: it has no refusal, so
// the connection just ends.
func (n *negotiation) exportName(name string) (*session, error) {
	e, err := n.lookup(name)
	if err != nil {
		return nil, err
	}
	s, err := n.session(e)
	if err != nil {
		return nil, err
	}
	size := 10
	if !n.noZeroes {
		size += 124
	}
	p := make([]byte, size)
	be.PutUint64(p, uint64(e.size))
	be.PutUint16(p[8:], s.flags)
	if _, err := n.conn.Write(p); err != nil {
		e.detach(s)
		return nil, n.broken("answer option", err)
	}
	return s, nil
}

// list answers with the name of every export that the client may use.
func (n *negotiation) list(data []byte) error {
	if len(data) != 0 {
		return n.refuse(optList, repErrInvalid, "option has no data")
	}
	for _, e := range n.server.list() {
		if n.admit(e) != nil {
			continue
		}
		p := be.AppendUint32(nil, uint32(len(e.Name)))
		p = append(p, e.Name...)
		if err := n.reply(optList, repServer, append(p, e.Description...)); err != nil {
			return err
		}
	}
	return n.reply(optList, repAck, nil)
}

// goOrInfo answers INFO, and GO, which also ends the negotiation.
func (n *negotiation) goOrInfo(opt uint32, data []byte) (*session, error) {
	name, wanted, ok := parseInfoRequest(data)
	if !ok {
		return nil, n.refuse(opt, repErrInvalid, "malformed option")
	}
	e, err := n.lookup(name)
	if err != nil {
		return nil, n.refuseErr(opt, err)
	}
	if opt == optInfo {
		return nil, n.describe(opt, e, wanted)
	}
	s, err := n.session(e)
	if err != nil {
		return nil, n.refuseErr(opt, err)
	}
	if err := n.describe(opt, e, wanted); err != nil {
		e.detach(s)
		return nil, err
	}
	return s, nil
}

// refuseErr sends an error of lookup or attach.
func (n *negotiation) refuseErr(opt uint32, err error) error {
	kind := uint32(repErrUnknown)
	if why := homeward.KindOf(err); why == homeward.InUse || why == homeward.Forbidden {
		kind = repErrPolicy
	}
	return n.refuse(opt, kind, err.Error())
}

// describe sends what a client may know about an export, then the final ack.
func (n *negotiation) describe(opt uint32, e *served, wanted []uint16) error {
	p := be.AppendUint16(nil, infoExport)
	p = be.AppendUint64(p, uint64(e.size))
	p = be.AppendUint16(p, n.flags(e))
	if err := n.reply(opt, repInfo, p); err != nil {
		return err
	}
	for _, kind := range wanted {
		p := be.AppendUint16(nil, kind)
		switch kind {
		case infoName:
			p = append(p, e.Name...)
		case infoDescription:
			if e.Description == "" {
				continue
			}
			p = append(p, e.Description...)
		case infoBlockSize:
			p = be.AppendUint32(p, 1)
			p = be.AppendUint32(p, blockPreferred)
			p = be.AppendUint32(p, MaxRequest)
		default:
			continue
		}
		if err := n.reply(opt, repInfo, p); err != nil {
			return err
		}
	}
	return n.reply(opt, repAck, nil)
}

// flags are the transmission flags of e for this client.
func (n *negotiation) flags(e *served) uint16 {
	flags := e.flags
	if n.structured {
		flags |= canDontFragment
	}
	return flags
}

// parseInfoRequest reads the data of GO and INFO: a name and the kinds of
// information asked for.
func parseInfoRequest(data []byte) (name string, wanted []uint16, ok bool) {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 2 {
		return "", nil, false
	}
	count := int(be.Uint16(rest))
	rest = rest[2:]
	if len(rest) != 2*count {
		return "", nil, false
	}
	seen := map[uint16]bool{}
	for ; len(rest) > 0; rest = rest[2:] {
		if kind := be.Uint16(rest); !seen[kind] {
			seen[kind] = true
			wanted = append(wanted, kind)
		}
	}
	return name, wanted, true
}

// cutString takes a string with its 32-bit length off the front of data.
func cutString(data []byte) (s string, rest []byte, ok bool) {
	if len(data) < 4 {
		return "", nil, false
	}
	n := be.Uint32(data)
	if n > MaxName || int(n) > len(data)-4 {
		return "", nil, false
	}
	return string(data[4 : 4+n]), data[4+n:], true
}
