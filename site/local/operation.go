package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// begin runs do as the operation of a key. A key that succeeded, or is running,
// answers its handle; one that failed, or was cut short by the end of a process,
// runs again, for do is idempotent.
func (s *Site) begin(key string, do func(context.Context) (homeward.Ref, error)) (homeward.Operation, error) {
	sum := sha256.Sum256([]byte(key))
	id := hex.EncodeToString(sum[:8])
	s.mu.Lock()
	defer s.mu.Unlock()
	if op, ok := s.running[id]; ok {
		return op, nil
	}
	op, err := s.stored(id)
	if err != nil && homeward.KindOf(err) != homeward.NotFound {
		return op, err
	}
	if err == nil && op.State == homeward.OperationSucceeded {
		return op, nil
	}
	op = homeward.Operation{ID: id, Key: key, State: homeward.OperationRunning}
	if err := s.store(op); err != nil {
		return op, err
	}
	s.running[id] = op
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		s.finish(op, do)
	}()
	return op, nil
}

func (s *Site) finish(op homeward.Operation, do func(context.Context) (homeward.Ref, error)) {
	ref, err := do(context.Background()) // operations outlive the call that began them; each bounds itself
	op.State, op.Result = homeward.OperationSucceeded, ref
	if err != nil {
		op.State, op.Error, op.Class, op.Remedy = homeward.OperationFailed, err.Error(), classOf(err), homeward.RemedyOf(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.store(op); err != nil {
		s.cfg.Log.Error("operation not recorded", "operation", op.Key, "error", err)
	}
	delete(s.running, op.ID)
}

// Operation answers how one stands.
func (s *Site) Operation(_ context.Context, id string) (homeward.Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op, ok := s.running[id]; ok {
		return op, nil
	}
	op, err := s.stored(id)
	if err == nil && op.State == homeward.OperationRunning {
		op.State, op.Class = homeward.OperationFailed, homeward.ClassTransient
		op.Error, op.Remedy = "the site's process ended in the middle of it", "call it again with the same key"
	}
	return op, err
}

func (s *Site) stored(id string) (op homeward.Operation, err error) {
	if raw, e := hex.DecodeString(id); e != nil || len(raw) != 8 {
		return op, homeward.Errorf("look up operation", homeward.Invalid, id, "give the id that began it", "not an operation id")
	}
	err = durable.ReadJSON(s.fsys, s.dir("operations", id+".json"), &op)
	if errors.Is(err, fs.ErrNotExist) {
		err = homeward.Errorf("look up operation", homeward.NotFound, id, "", "no such operation")
	}
	return op, err
}

func (s *Site) store(op homeward.Operation) error {
	return durable.WriteJSON(s.fsys, s.dir("operations", op.ID+".json"), op)
}

func classOf(err error) homeward.ErrorClass {
	switch homeward.KindOf(err) {
	case homeward.Unavailable, homeward.Timeout:
		return homeward.ClassTransient
	case homeward.Busy:
		return homeward.ClassThrottled
	case homeward.Forbidden, homeward.Unauthentic:
		return homeward.ClassPermission
	case homeward.InUse, homeward.Conflict:
		return homeward.ClassLocked
	case homeward.NoSpace:
		return homeward.ClassCapacity
	case homeward.NotFound:
		return homeward.ClassGone
	}
	return ""
}
