package role

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

func TestHub_KillAndReconnect(t *testing.T) {
	in := newInstallation(t)
	_, err := in.hub.Node(agent1.Name)
	wantKind(t, err, homeward.NotFound)
	events, unsubscribe := in.hub.Subscribe()
	defer unsubscribe()
	stop := in.start(in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}})))
	n := in.wait(agent1.Name)
	if e := next(t, events, true); e.Peer != agent1 || e.Version != "test" {
		t.Errorf("event %+v", e)
	}
	stop()
	if e := next(t, events, false); e.Peer != agent1 || e.Reason == "" {
		t.Errorf("event %+v", e)
	}
	_, err = Agent(n).Report(within(t), homeward.ItemRequest{})
	wantKind(t, err, homeward.Unavailable)
	if list := in.hub.Nodes(); len(list) != 1 || list[0].Connected {
		t.Errorf("nodes %+v", list)
	}
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}})))
	in.wait(agent1.Name)
	if _, err := Agent(n).Report(within(t), homeward.ItemRequest{}); err != nil {
		t.Errorf("the same Node after a reconnect: %v", err)
	}
}

func TestHub_ControllerComesBack(t *testing.T) {
	in := newInstallation(t)
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}})))
	in.wait(agent1.Name)
	in.stopHub()
	in.startHub()
	if _, err := Agent(in.wait(agent1.Name)).Report(within(t), homeward.ItemRequest{}); err != nil {
		t.Fatal(err)
	}
}

// A role that hangs (here: whose network swallows everything) is noticed by ping;
// a call in flight ends, and so does the role's side.
func TestHub_HungPeer(t *testing.T) {
	in := newInstallation(t)
	p := newPipe(t, in.addr)
	events, unsubscribe := in.hub.Subscribe()
	defer unsubscribe()
	fake := &recorder{block: make(chan struct{}), entered: make(chan struct{}, 1), aborted: make(chan error, 1)}
	o := in.dialling(agent1, AgentHandler(fakeAgent{fake}))
	o.Controllers = []string{p.addr}
	in.start(o)
	n := in.wait(agent1.Name)
	called := make(chan error, 1)
	go func() {
		_, err := Agent(n).Report(within(t), homeward.ItemRequest{})
		called <- err
	}()
	<-fake.entered
	p.swallow()
	wantKind(t, <-called, homeward.Unavailable)
	next(t, events, false)
	if err := <-fake.aborted; err == nil {
		t.Error("the role went on with a call nobody waits for")
	}
}

func TestHub_NewerConnectionSupersedes(t *testing.T) {
	in := newInstallation(t)
	log := &lines{t: t}
	older := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
	older.Log, older.MaxBackoff = slog.New(slog.NewTextHandler(log, nil)), defaultBackoff
	in.start(older)
	n := in.wait(agent1.Name)
	events, unsubscribe := in.hub.Subscribe()
	defer unsubscribe()
	newer := &recorder{answer: homeward.CaptureReport{Phase: "newer"}}
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{newer})))
	next(t, events, true)
	got, err := Agent(n).Report(within(t), homeward.ItemRequest{})
	if err != nil || got.Phase != "newer" {
		t.Errorf("answered by the older connection: %+v %v", got, err)
	}
	log.await("stop one or issue it its own")
	if !n.Status().Connected {
		t.Error("the end of the older connection took the newer one down")
	}
}

func TestHub_RefusesStrangers(t *testing.T) {
	in := newInstallation(t)
	foreign, err := pki.CreateAuthority(durable.OS(), filepath.Join(t.TempDir(), "ca"), "foreign")
	if err != nil {
		t.Fatal(err)
	}
	in.start(in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}})))
	in.wait(agent1.Name)
	for name, c := range map[string]struct {
		id, says pki.Peer
		by       *pki.Authority
		told     string
	}{
		"another authority": {agent1, agent1, foreign, "same authority"},
		"another name":      {agent1, pki.Peer{Role: pki.Agent, Name: "agent-2"}, in.authority, "it calls itself agent agent-2"},
		"a name in use":     {pki.Peer{Role: pki.MasterTarget, Name: agent1.Name}, pki.Peer{Role: pki.MasterTarget, Name: agent1.Name}, in.authority, "give every node a name of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &lines{t: t}
			o := in.dialling(c.says, AgentHandler(fakeAgent{&recorder{}}))
			o.TLS, o.Log = issueBy(t, c.by, c.id).ClientTLS(pki.Vault), slog.New(slog.NewTextHandler(log, nil))
			stop := in.start(o)
			log.await(c.told)
			stop()
		})
	}
	t.Run("a certificate that the controller refuses", func(t *testing.T) {
		log := &lines{t: t}
		o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
		o.TLS, o.Log = issueBy(t, foreign, agent1).ClientTLS(pki.Vault), slog.New(slog.NewTextHandler(log, nil))
		o.TLS.VerifyConnection = nil // so that the role accepts the controller
		stop := in.start(o)
		log.await("the other side refused this node")
		stop()
	})
	if list := in.hub.Nodes(); len(list) != 1 || list[0].Peer != agent1 || !list[0].Connected {
		t.Errorf("nodes %+v", list)
	}
}

func TestServe_NamesTheBadOption(t *testing.T) {
	in := newInstallation(t)
	for field, spoil := range map[string]func(*Options){
		"controller":  func(o *Options) { o.Controllers = append(o.Controllers, "nowhere") },
		"controllers": func(o *Options) { o.Controllers = nil },
		"name":        func(o *Options) { o.Hello.Name = "" },
		"options":     func(o *Options) { o.Handler = nil },
	} {
		o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
		spoil(&o)
		err := Serve(context.Background(), o)
		wantKind(t, err, homeward.Invalid)
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v: does not name %s", err, field)
		}
	}
}

func TestUnderstands(t *testing.T) {
	for n, want := range map[int]bool{0: false, -1: false, Protocol - 1: true, Protocol: true, Protocol + 1: true, Protocol + 2: false} {
		if got := understands(n, "peer") == nil; got != want {
			t.Errorf("%d: %v", n, got)
		}
	}
}

// lines is a log that can be waited on.
type lines struct {
	t    *testing.T
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return len(p), nil
}

func (l *lines) await(words string) {
	l.t.Helper()
	ctx := within(l.t)
	for {
		l.mu.Lock()
		if strings.Contains(l.text.String(), words) {
			l.mu.Unlock()
			return
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more, text := l.more, l.text.String()
		l.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			l.t.Fatalf("log never said %q:\n%s", words, text)
		}
	}
}

// pipe forwards connections to an address until told to swallow.
type pipe struct {
	addr      string
	swallowed chan struct{}
	swallow   func()
}

func newPipe(t *testing.T, to string) *pipe {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{addr: ln.Addr().String(), swallowed: make(chan struct{})}
	p.swallow = sync.OnceFunc(func() { close(p.swallowed) })
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			all.Go(func() { p.copy(near, far) })
			all.Go(func() { p.copy(far, near) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return p
}

// copy keeps both ends open while it swallows, so that nobody learns of it.
func (p *pipe) copy(dst, src net.Conn) {
	defer src.Close()
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		if err != nil {
			break
		}
		select {
		case <-p.swallowed:
			continue
		default:
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			break
		}
	}
	select {
	case <-p.swallowed: // the other end must not learn that this one has closed
		_, _ = io.Copy(io.Discard, dst)
	default:
		dst.Close()
	}
}

// A heartbeat that is no heartbeat any more is refused; it cannot fill the vault's memory.
func TestMember_AnswersAreBounded(t *testing.T) {
	in := newInstallation(t)
	o := in.dialling(agent1, AgentHandler(fakeAgent{&recorder{}}))
	o.Member = fakeMember{&recorder{answer: homeward.HealthReport{OSVersion: strings.Repeat("x", maxHeartbeat)}}}
	in.start(o)
	_, err := Member(in.wait(agent1.Name)).Health(within(t), homeward.HealthRequest{})
	wantKind(t, err, homeward.Invalid)
}
