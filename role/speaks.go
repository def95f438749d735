//go:build !previous

package role

import "net/http"

// Protocol is the number of this protocol. It rises with the first field or call that is
// added after a release; neighbouring numbers understand each other. What a number's
// calls, requests and answers are made of is in protocol/NUMBER.txt.
const Protocol = 3

// spoken is an endpoint as this build serves it.
func (e endpoint) spoken(string) (h http.Handler, known bool) { return e.Handler, true }
