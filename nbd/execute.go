package nbd

import (
	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// task is one request of a session, from its reading until its reply is written.
// It holds room of the server's budget all that time.
type task struct {
	request
	session *session
	buf     *buffer // payload of a read or write; nil when there is none or it is too long
	size    int     // what was reserved
	head    [64]byte
	extra   []byte // reply longer than head, for commands without a buffer
	err     error
	hole    bool // a read found nothing but zeroes, and may say so
}

// task prepares a pooled task.
func (s *Server) task(sess *session, req request, size int) *task {
	t, ok := s.tasks.Get().(*task)
	if !ok {
		t = &task{}
	}
	t.request, t.session, t.size = req, sess, size
	if (req.cmd == cmdRead || req.cmd == cmdWrite) && req.n <= MaxRequest {
		t.buf = s.buffers.get(size)
	}
	return t
}

// sent gives everything back: the reply is on its way, or nobody waits for it.
func (t *task) sent() {
	s := t.session.server
	if t.buf != nil {
		s.buffers.put(t.buf)
	}
	s.budget.give(t.size)
	t.session, t.buf, t.extra, t.err, t.hole = nil, nil, nil, nil, false
	s.tasks.Put(t)
}

// allowed are the flags each command may carry.
var allowed = map[uint16]uint16{
	cmdRead:        reqDF | reqFUA,
	cmdWrite:       reqFUA,
	cmdFlush:       reqFUA,
	cmdTrim:        reqFUA,
	cmdWriteZeroes: reqFUA | reqNoHole | reqFastZero,
	cmdBlockStatus: reqFUA | reqOne,
}

// do checks the request and carries it out inside the export's gate.
func (t *task) do() {
	if t.err = t.check(); t.err != nil {
		return
	}
	gate := &t.session.export.gate
	if !gate.enter() {
		t.err = homeward.Errorf("serve", homeward.Unavailable, t.session.export.Name,
			"connect to the export of the generation in force", "the export was withdrawn")
		return
	}
	defer gate.leave()
	t.err = t.execute()
}

func (t *task) check() error {
	e := t.session.export
	bad := func(kind homeward.Kind, format string, args ...any) error {
		return homeward.Errorf("serve", kind, e.Name, "", format, args...)
	}
	flags, known := allowed[t.cmd]
	switch {
	case !known:
		return bad(homeward.Invalid, "command %d", t.cmd)
	case t.flags&^flags != 0:
		return bad(homeward.Invalid, "flags %#x with command %d", t.flags, t.cmd)
	case t.cmd == cmdFlush:
		return nil
	case e.ReadOnly && t.cmd != cmdRead && t.cmd != cmdBlockStatus:
		return bad(homeward.Forbidden, "the export is read-only")
	case t.off > uint64(e.size) || uint64(t.n) > uint64(e.size)-t.off:
		if t.cmd == cmdWrite || t.cmd == cmdWriteZeroes {
			return bad(homeward.NoSpace, "beyond the end of the disk")
		}
		return bad(homeward.Invalid, "beyond the end of the disk")
	case (t.cmd == cmdRead || t.cmd == cmdWrite) && t.buf == nil:
		return bad(homeward.Invalid, "%d bytes, more than %d", t.n, MaxRequest)
	case t.cmd == cmdBlockStatus && (len(t.session.contexts) == 0 || t.n == 0):
		return bad(homeward.Invalid, "block status without a context or a range")
	case t.cmd == cmdRead && t.flags&reqDF != 0 && !t.session.structured:
		return bad(homeward.Invalid, "DF without structured replies")
	}
	return nil
}

// execute does what the request asks for to the disk.
func (t *task) execute() error {
	disk, off, n := t.session.export.Disk, int64(t.off), int64(t.n)
	switch t.cmd {
	case cmdRead:
		return t.read(disk)
	case cmdWrite:
		return t.write(disk)
	case cmdFlush:
		return disk.Flush()
	case cmdTrim:
		// Trimmed means zero here: a block whose content nobody can tell could not be
		// compared with its copy.
		return t.flushed(disk, disk.Zero(off, n, true))
	case cmdWriteZeroes:
		punch := t.flags&reqNoHole == 0
		if t.flags&reqFastZero != 0 {
			if fast, ok := disk.(fastZeroer); !ok || !fast.ZeroIsFast(punch) {
				return homeward.Errorf("zero", homeward.Unsupported, t.session.export.Name, "", "not faster than writing")
			}
		}
		return t.flushed(disk, disk.Zero(off, n, punch))
	}
	return t.status()
}

// holesFrom is the size of a read from which it is worth looking whether it is
// all zeroes. The disk is not asked for its holes: on some file systems that takes
// longer than reading them.
const holesFrom = 16 << 10

func (t *task) read(disk block.Disk) error {
	p := t.buf.payload(t.size)
	if _, err := disk.ReadAt(p, int64(t.off)); err != nil {
		return err
	}
	t.hole = t.session.structured && t.flags&reqDF == 0 && t.size >= holesFrom && block.IsZero(p)
	return nil
}

func (t *task) write(disk block.Disk) error {
	p := t.buf.payload(t.size)
	if t.flags&reqFUA == 0 {
		_, err := disk.WriteAt(p, int64(t.off))
		return err
	}
	if fua, ok := disk.(block.FUAWriter); ok {
		_, err := fua.WriteAtFUA(p, int64(t.off))
		return err
	}
	_, err := disk.WriteAt(p, int64(t.off))
	return t.flushed(disk, err)
}

// flushed flushes after a successful step, if the request says FUA.
func (t *task) flushed(disk block.Disk, err error) error {
	if err != nil || t.flags&reqFUA == 0 {
		return err
	}
	return disk.Flush()
}
