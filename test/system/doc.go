// Package system proves the whole with nothing pretended: every role is a process,
// they speak mutual TLS over an emulated link, guests are real (QEMU) or the
// built-in workload, disks are files, and the judges are QEMU, e2fsck, PostgreSQL
// and the guests themselves.
//
//	rig_test.go          a stage, its guest, and what a test asks of them
//	roundtrip_test.go    a real guest, there and back twice
//	kill_test.go         kill -9 of every role at every step
//	oldguest_test.go     a guest of the lost site that wakes up later
//	postgres_test.go     a database over NBD through failover and failback
//	late_test.go         a machine whose first writes no agent saw
//	breakglass_test.go   only the away site's disks are left
//	powerloss_test.go    the old side comes back without its live map
//	requests_test.go     bad input, each refused with what to do
//	damage_test.go       files of roles torn and flipped at rest
//	full_test.go         full disks; medium_test.go: disks that fail
//	peers_test.go        links and roles that hang
//	points_test.go       the choice of points, lost writes, disks that change size
//	cli_test.go          the command line, run to its end
//	readme_test.go       what the README has typed, on one machine and on three
//	vault_*_test.go      the vault and two sites, by operators who type; jobs, probes,
//	                     enrolment, restores, older roles, sites that go away
//
// Randomised tests print their seed and take HOMEWARD_SEED; HOMEWARD_CASES raises
// the number of rounds. A missing tool fails the test that needs it. Some tests
// mount small file systems and loop devices: they need root.
package system
