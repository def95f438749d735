package role

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// contracts are all that travel: how each is served and called, and its interface.
var contracts = []struct {
	peer    pki.Peer
	iface   reflect.Type
	handler func(*recorder) http.Handler
	client  func(*Node) any
}{
	{
		pki.Peer{Role: pki.Agent, Name: "agent-1"}, reflect.TypeFor[homeward.Agent](),
		func(r *recorder) http.Handler { return AgentHandler(fakeAgent{r}) },
		func(n *Node) any { return Agent(n) },
	},
	{
		pki.Peer{Role: pki.ProcessServer, Name: "ps-1"}, reflect.TypeFor[homeward.ProcessServer](),
		func(r *recorder) http.Handler { return ProcessServerHandler(fakeProcessServer{r}) },
		func(n *Node) any { return ProcessServer(n) },
	},
	{
		pki.Peer{Role: pki.MasterTarget, Name: "mt-1"}, reflect.TypeFor[homeward.MasterTarget](),
		func(r *recorder) http.Handler { return MasterTargetHandler(fakeMasterTarget{r}) },
		func(n *Node) any { return MasterTarget(n) },
	},
	{
		pki.Peer{Role: pki.ConfigurationServer, Name: "cs-1"}, reflect.TypeFor[homeward.Site](),
		func(r *recorder) http.Handler { return SiteHandler(fakeSite{r}) },
		func(n *Node) any { return Site(n) },
	},
	{
		pki.Peer{Role: pki.ConfigurationServer, Name: "cs-2"}, reflect.TypeFor[homeward.Prober](),
		func(r *recorder) http.Handler { return SiteHandler(fakeSite{r}) },
		func(n *Node) any { return Site(n) },
	},
	{
		pki.Peer{Role: pki.Agent, Name: "member-1"}, reflect.TypeFor[homeward.Member](),
		func(r *recorder) http.Handler { return MemberHandler(fakeMember{r}) },
		func(n *Node) any { return Member(n) },
	},
}

// TestContracts calls every method of every contract through the wire.
func TestContracts(t *testing.T) {
	in := newInstallation(t)
	for _, c := range contracts {
		fake := &recorder{}
		in.start(in.dialling(c.peer, c.handler(fake)))
		client := reflect.ValueOf(c.client(in.wait(c.peer.Name)))
		for i := range c.iface.NumMethod() {
			m := c.iface.Method(i)
			t.Run(string(c.peer.Role)+"/"+m.Name, func(t *testing.T) { travels(t, fake, client.MethodByName(m.Name), m) })
		}
	}
}

// travels checks one method: request, answer, and every kind of error.
func travels(t *testing.T, fake *recorder, call reflect.Value, m reflect.Method) {
	n := new(byte)
	var req []any
	in := []reflect.Value{reflect.ValueOf(within(t))}
	for i := 1; i < m.Type.NumIn(); i++ {
		v := filled(m.Type.In(i), n)
		in, req = append(in, v), append(req, v.Interface())
	}
	var answer any // a call may answer nothing but its error
	if m.Type.NumOut() == 2 {
		answer = filled(m.Type.Out(0), n).Interface()
	}
	invoke := func() (got any, err error) {
		out := call.Call(in)
		err, _ = out[len(out)-1].Interface().(error)
		if len(out) == 2 {
			got = out[0].Interface()
		}
		return got, err
	}
	fake.answer, fake.err = answer, nil
	got, err := invoke()
	if err != nil {
		t.Fatal(err)
	}
	if fake.method != m.Name || !reflect.DeepEqual(fake.args, req) {
		t.Errorf("arrived as %s %+v\nsent %+v", fake.method, fake.args, req)
	}
	if !reflect.DeepEqual(got, answer) {
		t.Errorf("answer %+v\nsent %+v", got, answer)
	}
	position := homeward.Position{Sequence: 7, Cut: homeward.NewID()}
	generation := homeward.Generation{Number: 3, ID: homeward.NewID()}
	for kind := range homeward.Table {
		fake.err = homeward.Errorf("do it", kind, "item a", "do that", "cause: %w",
			errors.Join(&homeward.PositionError{True: position}, &homeward.FencedError{InForce: generation}))
		_, err := invoke()
		var p *homeward.PositionError
		var f *homeward.FencedError
		if homeward.KindOf(err) != kind || homeward.RemedyOf(err) != "do that" || !strings.Contains(err.Error(), "do it item a: cause") {
			t.Errorf("%s became %v (%s)", kind, err, homeward.KindOf(err))
		}
		if !errors.As(err, &p) || p.True != position || !errors.As(err, &f) || f.InForce != generation {
			t.Errorf("%s: position or generation lost: %v", kind, err)
		}
	}
	fake.err = nil
}

// filled is a value of type t with something in every field.
func filled(t reflect.Type, n *byte) reflect.Value {
	v := reflect.New(t).Elem()
	fill(v, n)
	return v
}

func fill(v reflect.Value, n *byte) {
	*n = *n%100 + 1 // different everywhere, so that swapped fields show
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(int64(*n), 5000).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := filled(v.Type().Key(), n), filled(v.Type().Elem(), n)
		v.SetMapIndex(key, value)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.String:
		v.SetString(strings.Repeat("x", int(*n)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(float64(*n) / 2)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Uint8:
		v.SetUint(uint64(*n))
	default:
		panic("the conformance test cannot fill a " + v.Type().String())
	}
}

func TestCall_OddRequests(t *testing.T) {
	in := newInstallation(t)
	fake := &recorder{}
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{fake})))
	n := in.wait(agent1.Name)
	type surplus struct {
		Item string `json:"item"`
		New  int    `json:"new"`
	}
	ctx := within(t)
	_, err := call[homeward.CaptureReport](ctx, n, "agent/report", surplus{"a", 1})
	wantKind(t, err, homeward.Invalid)
	if !strings.Contains(err.Error(), `"new"`) {
		t.Errorf("does not name the unknown field: %v", err)
	}
	_, err = call[homeward.Done](ctx, n, "agent/make-coffee", homeward.ItemRequest{})
	wantKind(t, err, homeward.Unsupported)
	_, err = MasterTarget(n).Points(ctx, homeward.ItemRequest{})
	wantKind(t, err, homeward.Unsupported)
	_, err = Agent(n).MarkChanged(ctx, homeward.MarkRequest{Disks: []homeward.DiskChanges{{Changed: make([]byte, MaxBody*4/5)}}})
	wantKind(t, err, homeward.Invalid)
	fake.err = panicking("a defect")
	_, err = Agent(n).Report(ctx, homeward.ItemRequest{})
	wantKind(t, err, homeward.Internal)
	fake.err = nil
	if _, err = Agent(n).Report(ctx, homeward.ItemRequest{}); err != nil {
		t.Errorf("a panic took more than its call down: %v", err)
	}
}

// A large map passes, and a long call leaves room for others.
func TestCall_LargeAndLong(t *testing.T) {
	in := newInstallation(t)
	fake := &recorder{}
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{fake})))
	a := Agent(in.wait(agent1.Name))
	ctx := within(t)
	large := homeward.MarkRequest{Disks: []homeward.DiskChanges{{Changed: make([]byte, 33<<20)}}}
	if _, err := a.MarkChanged(ctx, large); err != nil {
		t.Fatal(err)
	}
	if got := fake.args[0].(homeward.MarkRequest); len(got.Disks[0].Changed) != 33<<20 {
		t.Errorf("%d bytes arrived", len(got.Disks[0].Changed))
	}

	fake.mu.Lock()
	fake.block, fake.entered, fake.aborted = make(chan struct{}), make(chan struct{}), make(chan error, 1)
	fake.mu.Unlock()
	long, giveUp := context.WithCancel(ctx)
	drained := make(chan error, 1)
	go func() {
		_, err := a.Drain(long, homeward.DrainRequest{})
		drained <- err
	}()
	<-fake.entered
	fake.mu.Lock()
	fake.block = nil
	fake.mu.Unlock()
	if _, err := a.Report(ctx, homeward.ItemRequest{}); err != nil {
		t.Errorf("beside a long call: %v", err)
	}
	giveUp()
	wantKind(t, <-drained, homeward.Canceled)
	if err := <-fake.aborted; err == nil {
		t.Error("the role did not learn that the caller gave up")
	}
}

// FuzzHandler: no body makes a handler panic, and each gets a document.
func FuzzHandler(f *testing.F) {
	f.Add([]byte(`{"item":"web01","generation":{"number":3,"id":"00112233445566778899aabbccddeeff"}}`))
	f.Add([]byte(`{"machine":{},"base":"x"}`))
	f.Add([]byte(`{} {}`))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzBody(t, body) })
}
