package nbd

import "encoding/binary"

// Every number on the wire is big-endian.
var be = binary.BigEndian

// Magic numbers.
const (
	magicServer     = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x0003e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Handshake flags; the client's have the same values as the server's.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options a client may send while it negotiates.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optStartTLS        = 5
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
)

// Replies to options; errors have the top bit set.
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4

	repError          = 1 << 31
	repErrUnsupported = repError + 1
	repErrPolicy      = repError + 2
	repErrInvalid     = repError + 3
	repErrPlatform    = repError + 4
	repErrTLSRequired = repError + 5
	repErrUnknown     = repError + 6
	repErrShutdown    = repError + 7
	repErrBlockSize   = repError + 8
	repErrTooBig      = repError + 9
)

// Kinds of information about an export.
const (
	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Transmission flags: what an export can do.
const (
	canHasFlags     = 1 << 0
	canReadOnly     = 1 << 1
	canFlush        = 1 << 2
	canFUA          = 1 << 3
	canTrim         = 1 << 5
	canWriteZeroes  = 1 << 6
	canDontFragment = 1 << 7
	canMultiConn    = 1 << 8
	canFastZero     = 1 << 11
)

// Commands.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
)

// Command flags.
const (
	reqFUA      = 1 << 0
	reqNoHole   = 1 << 1
	reqDF       = 1 << 2 // answer a read in one chunk
	reqOne      = 1 << 3 // answer a block status with one extent
	reqFastZero = 1 << 4
)

// Structured reply chunks.
const (
	chunkDone = 1 << 0 // flag: the last chunk of its reply

	chunkNone        = 0
	chunkOffsetData  = 1
	chunkOffsetHole  = 2
	chunkBlockStatus = 5
	chunkError       = 1<<15 + 1
	chunkErrorOffset = 1<<15 + 2
	chunkErrorBit    = 1 << 15
)

// Sizes of fixed parts, in bytes.
const (
	requestSize    = 28
	simpleSize     = 16
	structuredSize = 20
	optionSize     = 16
	optReplySize   = 20
)

// Limits. They bound what a peer can make us hold, not what the protocol allows.
const (
	// MaxRequest is the most bytes one read or write request may carry.
	MaxRequest = 32 << 20
	// MaxName is the most bytes an export name may have; the protocol says so.
	MaxName = 4096

	maxOptionData  = 64 << 10 // of an option that carries data we look at
	maxOptions     = 4096     // per handshake: nbdinfo --list asks once per export and more
	maxExtents     = 8192     // per block status reply and context
	maxSize        = 1<<63 - 1
	blockPreferred = 4096
)

// request is the fixed part of a client's request.
type request struct {
	flags  uint16
	cmd    uint16
	cookie uint64
	off    uint64
	n      uint32
}

func (r request) put(p []byte) {
	be.PutUint32(p, magicRequest)
	be.PutUint16(p[4:], r.flags)
	be.PutUint16(p[6:], r.cmd)
	be.PutUint64(p[8:], r.cookie)
	be.PutUint64(p[16:], r.off)
	be.PutUint32(p[24:], r.n)
}

// parseRequest reads requestSize bytes; false: they are no request.
func parseRequest(p []byte) (request, bool) {
	return request{
		flags:  be.Uint16(p[4:]),
		cmd:    be.Uint16(p[6:]),
		cookie: be.Uint64(p[8:]),
		off:    be.Uint64(p[16:]),
		n:      be.Uint32(p[24:]),
	}, be.Uint32(p) == magicRequest
}

// chunk is the fixed part of one structured reply chunk.
type chunk struct {
	flags  uint16
	kind   uint16
	cookie uint64
	n      uint32 // bytes that follow
}

func (c chunk) put(p []byte) {
	be.PutUint32(p, magicStructured)
	be.PutUint16(p[4:], c.flags)
	be.PutUint16(p[6:], c.kind)
	be.PutUint64(p[8:], c.cookie)
	be.PutUint32(p[16:], c.n)
}

// parseChunk reads what follows the magic of a structured chunk.
func parseChunk(p []byte) chunk {
	return chunk{flags: be.Uint16(p), kind: be.Uint16(p[2:]), cookie: be.Uint64(p[4:]), n: be.Uint32(p[12:])}
}
