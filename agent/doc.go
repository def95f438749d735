// Package agent is the mobility agent: it captures the writes of machines, cuts
// them into deltas and ships them to the next hop, a homeward.Sink.
//
// Follow one block:
//
//	agent.go     Open, Close, which machines there are
//	prepare.go   CaptureRequest: what is checked, what is made
//	exports.go   the machine's disks over NBD; the guest writes there (package capture marks)
//	loop.go      when a cut is made
//	turn.go      who may cut now; wish.go who waits for a cut
//	cutting.go   one cut on its way: cut, packed, spooled, applied
//	backlog.go   sets too large to be cut at once
//	pack.go      its blocks become deltas of at most 8 MiB
//	session.go   deltas are put, acknowledged, applied; what the sink says counts only here
//	chain.go     the positions the replica may stand at, durable before a delta is sent
//	leg.go       sessions one after the other; where to go on after a fault
//
// Around it:
//
//	item.go      one machine's life: resume, export, fence
//	redirect.go  another replica takes over, under the machine that runs
//	fence.go     the generation in force; handover.go ends writing here (I-11)
//	record.go    what an item keeps on disk
//	changes.go   maps in and out
//	freeze.go    application-consistent marks: commands; guestagent.go the QEMU guest agent
//	group.go     several machines at one instant
//	prove.go     digests, of the live disks or of a frozen cut
//	baseline.go  machines whose first writes are not seen
//	report.go    CaptureReport; alarms.go, meter.go what it tells from
//	calls.go     the remaining calls of homeward.Agent
package agent
