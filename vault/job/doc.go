// Package job runs stored plans. A job's tasks are written down before its first
// effect, and every change of a task before the next effect; killed anywhere, the
// engine goes on with every job where it stood. DESIGN.md tells what is promised.
//
// Read in this order: definition.go (what a job consists of), run.go (what a task
// may use), store.go (what must be kept, and who holds an item), engine.go (start,
// resume, wait, close), live.go and work.go (a job while it runs), tell.go
// (cancel, retry, skip, abort), children.go, turns.go (limits), failure.go.
package job
