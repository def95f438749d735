// Package capture measures what a guest pays for being protected: its requests,
// by fio over NBD, beside other NBD servers and the bare file; with replication
// running, beside QEMU's mirror; and how long a cut holds its writes.
//
//	chapter.go      the chapter: which settings, in which order
//	place.go        where images are: in memory, on the file system
//	fio.go          one run of fio
//	server.go       who serves an image
//	request.go      part one: requests without replication
//	replication.go  part two: ours and QEMU's mirror (mirror.go), compared byte by byte
//	hold.go         part three: what cuts hold
//	show.go         tables, plots and goals
package capture
