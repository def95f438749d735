package nbd

import (
	"slices"
	"strings"

	"github.com/homeward-dr/homeward/block"
)

// metaContext is a context a client has chosen; its id is its place in the
// session's list, counted from 1.
type metaContext struct {
	name    string
	context Context
}

// allocation is base:allocation of a disk.
type allocation struct{ disk block.Disk }

// metaContexts lists what an export offers, base:allocation first.
func (e *served) metaContexts() []metaContext {
	all := []metaContext{{ContextAllocation, allocation{e.Disk}}}
	names := make([]string, 0, len(e.Contexts))
	for name := range e.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		all = append(all, metaContext{name, e.Contexts[name]})
	}
	return all
}

// metaContext answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (n *negotiation) metaContext(opt uint32, data []byte) error {
	name, queries, ok := parseQueries(data)
	switch {
	case !ok:
		return n.refuse(opt, repErrInvalid, "malformed option")
	case opt == optSetMetaContext && !n.structured:
		return n.refuse(opt, repErrInvalid, "negotiate structured replies first")
	}
	if opt == optSetMetaContext {
		n.contexts, n.contextsOf = nil, name
	}
	e, err := n.lookup(name)
	if err != nil {
		return n.refuseErr(opt, err)
	}
	chosen := choose(e.metaContexts(), queries, opt == optListMetaContext)
	for i, c := range chosen {
		id := uint32(i + 1)
		if opt == optListMetaContext {
			id = 0
		}
		if err := n.reply(opt, repMetaContext, append(be.AppendUint32(nil, id), c.name...)); err != nil {
			return err
		}
	}
	if opt == optSetMetaContext {
		n.contexts = chosen
	}
	return n.reply(opt, repAck, nil)
}

// choose picks the contexts that any query names. Only a listing knows
// wildcards: no query at all, or a namespace with nothing after its colon.
func choose(all []metaContext, queries []string, listing bool) []metaContext {
	var chosen []metaContext
	for _, c := range all {
		space := c.name[:strings.IndexByte(c.name, ':')+1]
		if slices.Contains(queries, c.name) || listing && (len(queries) == 0 || slices.Contains(queries, space)) {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// parseQueries reads the data of the two meta context options.
func parseQueries(data []byte) (name string, queries []string, ok bool) {
	name, rest, ok := cutString(data)
	if !ok || len(rest) < 4 {
		return "", nil, false
	}
	count := be.Uint32(rest)
	rest = rest[4:]
	for range count {
		var q string
		if q, rest, ok = cutString(rest); !ok {
			return "", nil, false
		}
		queries = append(queries, q)
	}
	return name, queries, len(rest) == 0
}
