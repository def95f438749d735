package readiness

import "time"

// Standing says what is known of a fact.
type Standing string

// The standings. The zero value of a Value is unknown.
const (
	Known   Standing = "known"
	Absent  Standing = "absent" // known not to be there
	Unknown Standing = ""
)

// Value is a fact: what it is, or that there is none, or that it is not known.
type Value[T any] struct {
	V        T         // only if Known
	Standing Standing  //
	Source   string    // who said so: "node mt-home", "site home", "vault"
	At       time.Time // when
	Why      string    // Unknown: why it is not known
}

// Is is a known fact.
func Is[T any](v T, source string, at time.Time) Value[T] {
	return Value[T]{V: v, Standing: Known, Source: source, At: at}
}

// None is the knowledge that there is no such thing.
func None[T any](source string, at time.Time) Value[T] {
	return Value[T]{Standing: Absent, Source: source, At: at}
}

// NotKnown is a fact that could not be found out.
func NotKnown[T any](source, why string) Value[T] {
	return Value[T]{Source: source, Why: why}
}

// Told is a fact that is zero where its source did not know it: the fields of
// homeward.Machine and of heartbeats are such.
func Told[T comparable](v T, source string, at time.Time) Value[T] {
	var zero T
	if v == zero {
		return NotKnown[T](source, "not told")
	}
	return Is(v, source, at)
}
