package service

import (
	"context"
	"sync"
	"testing"
)

// One owner at a time, whoever asks how; and nothing is left behind.
func TestOwnership_Exclusive(t *testing.T) {
	var o ownership
	var busy, turns int
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			var release func()
			var err error
			switch i % 3 {
			case 0:
				release, err = o.claim(t.Context(), "web")
			case 1:
				_, release, err = o.claimPatiently(t.Context(), "web")
			default:
				var free bool
				if _, release, free = o.tryClaim(t.Context(), "web"); !free {
					return
				}
			}
			if err != nil {
				t.Error(err)
				return
			}
			busy++ // the race detector, and this, see two at once
			if busy != 1 {
				t.Error("two own the item")
			}
			turns++
			busy--
			release()
		})
	}
	all.Wait()
	if turns < 40 || len(o.items) != 0 {
		t.Fatalf("%d turns, left behind: %v", turns, o.items)
	}
}

// Who waits there is interrupted by who has something to do, and comes after it.
func TestOwnership_Interrupt(t *testing.T) {
	var o ownership
	patient, release, err := o.claimPatiently(t.Context(), "web")
	must(t, err)
	done := make(chan string, 2)
	go func() {
		release, err := o.claim(t.Context(), "web")
		if err != nil {
			t.Error(err)
		}
		done <- "urgent"
		release()
	}()
	<-patient.Done()
	go func() {
		_, release, err := o.claimPatiently(t.Context(), "web")
		if err != nil {
			t.Error(err)
		}
		done <- "patient"
		release()
	}()
	if _, _, free := o.tryClaim(t.Context(), "web"); free {
		t.Fatal("it was free")
	}
	release()
	if first, second := <-done, <-done; first != "urgent" || second != "patient" {
		t.Fatalf("%s came before %s", first, second)
	}
}

func TestOwnership_GivesUp(t *testing.T) {
	var o ownership
	release, err := o.claim(t.Context(), "web")
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.claim(ctx, "web"); err == nil {
		t.Fatal("it was not free")
	}
	release()
	if len(o.items) != 0 {
		t.Fatalf("left behind: %v", o.items)
	}
}
