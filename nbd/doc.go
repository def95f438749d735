// Package nbd speaks the Network Block Device protocol: a server that exports
// disks and a client that is one.
//
// The server speaks fixed newstyle with structured replies, meta contexts, TLS
// and block-size constraints; QEMU, libvirt, the Linux kernel, nbdkit and libnbd
// are its intended peers. An export can be withdrawn: from then on no request of
// its clients touches the disk and its name never comes back (I-6). The client
// pipelines, and reconnects within a deadline.
//
// Where to look:
//
//	wire.go       the numbers and layouts of the protocol
//	errno.go      error kinds of Homeward to and from NBD error numbers
//	uri.go        nbd://, nbds://, nbd+unix:///, nbds+unix:///
//	export.go     what is served, and the gate that I-6 rests on
//	server.go     accept, Add, Withdraw, Close
//	negotiate.go  the server's handshake; options.go its answers; contexts.go meta contexts
//	session.go    the server's transmission phase: read a request, run it, answer it
//	execute.go    one request against the disk
//	reply.go      replies, and errors as replies
//	outbox.go     one writer of a connection, joining what is ready into one system call
//	inbox.go      the reader of a connection; socket_*.go the system call below it
//	buffer.go     pooled buffers; budget.go the bounds on what is in progress
//	client.go     the client as a block.Disk; call.go one request; link.go one connection;
//	keeper.go     reconnecting; join.go the client's handshake
package nbd
