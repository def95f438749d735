package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/delta"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

func TestCLI_Errors(t *testing.T) {
	s := newShell(t)
	s.run("make-coffee").wants(2).says(`no such command: "make-coffee"`, "what to do: see 'homeward --help'")
	s.run("help make-coffee").wants(2).says(`no such command: "make-coffee"`)
	s.run("help delta make-coffee").wants(2).says(`no such command: "delta make-coffee"`)
	s.run("delta make-coffee").wants(2).says("no such command")
	s.run("version --fast").wants(2).says("unknown flag")
	s.run("delta verify").wants(2).says("0 arguments given, 1 expected")
	s.run("--log-level LOUD version").wants(2).says("log-level")

	r := s.run("--json delta verify absent.delta").wants(3)
	var problem struct {
		Kind   homeward.Kind `json:"kind"`
		Remedy string        `json:"remedy"`
	}
	if err := json.Unmarshal([]byte(r.errOut), &problem); err != nil || problem.Kind != homeward.NotFound || problem.Remedy != "check the path" {
		t.Errorf("not one problem document: %v\n%s", err, r.errOut)
	}
	if r.out != "" {
		t.Errorf("an error on standard output: %s", r.out)
	}
}

func TestCLI_HelpAndVersion(t *testing.T) {
	s := newShell(t)
	codes := s.run("help exit-codes").wants(0, " 7  fenced        an older generation").out
	for kind := range homeward.Table {
		if !strings.Contains(codes, string(kind)+" ") || meanings[kind] == "" {
			t.Errorf("exit-codes does not explain %s", kind)
		}
	}
	s.run("version").wants(0, "homeward ")
	s.run("--version").wants(0, "homeward ")
	s.run("--json version").wants(0, `"protocol":3`)
	s.run("help delta verify").wants(0, "homeward delta verify FILE", "--help")
	s.run("").wants(0, "agent", "process-server", "master-target", "delta", "pki")
}

func TestCLI_PKI(t *testing.T) {
	s := newShell(t)
	s.run("pki init --ca ca --name Test").wants(0, "created an authority in ca")
	s.run("pki init --ca ca").wants(4).says("holds an authority already", "what to do: use it, or choose another directory")
	s.run("pki issue --ca ca --role agent --name web01 --out id/web01 --ip 127.0.0.1 --dns web01.example").wants(0, "issued agent web01")
	s.run("--json pki issue --ca ca --role vault --name v1 --out id/v1").wants(0, `"peer":{"role":"vault","name":"v1"}`)
	verify := exec.Command("openssl", "verify", "-CAfile", s.path("id/web01/ca.pem"), s.path("id/web01/cert.pem"))
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("openssl (apt-get install openssl): %v\n%s", err, out)
	}

	s.run("pki issue --ca ca --role boss --name web02 --out id/web02").wants(2).says("role", "give one of agent, process-server")
	s.run("pki issue --ca ca --role agent --name web/02 --out id/web02").wants(2).says("name")
	s.run("pki issue --ca ca --role agent --name web02 --out id/web02 --lifetime -1h").wants(2).says("lifetime")
	s.run("pki issue --role agent --name web02 --out id/web02").wants(2).says("--ca")
	s.run("pki issue --ca none --role agent --name web02 --out id/web02").wants(3).says("homeward pki init")
	if _, err := os.Stat(s.path("id/web02")); err == nil {
		t.Error("a refused request wrote something")
	}
	s.run("pki revoke --ca ca --tell id/v1 id/web01").wants(0, "revoked id/web01; 1 identity directories")
	s.run("pki revoke --ca ca id/nobody").wants(3)
}

func TestCLI_VerifyDocument(t *testing.T) {
	s := newShell(t)
	s.run("pki init --ca ca").wants(0)
	s.run("pki issue --ca ca --role vault --name v1 --out v1").wants(0)
	id, err := pki.LoadIdentity(durable.OS(), s.path("v1"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := pki.Sign(id, homeward.Proof{Item: "web01", Equal: true})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string) {
		t.Helper()
		data, err := json.Marshal(doc)
		if err == nil {
			err = durable.WriteFile(durable.OS(), s.path(name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("proof.json")
	s.run("pki verify --identity v1 proof.json").wants(0, `"item": "web01"`, "signed by vault v1")
	doc.Payload[2] ^= 1
	write("forged.json")
	s.run("pki verify --identity v1 forged.json").wants(8).says("forged.json", "do not rely on it")
	s.run("pki verify --identity v1 v1/cert.pem").wants(15)
	s.run("pki verify --identity nowhere proof.json").wants(3).says("pki issue")
}

func TestCLI_Delta(t *testing.T) {
	s := newShell(t)
	if err := durable.WriteFile(durable.OS(), s.path("notes.txt"), []byte("not a delta\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("delta verify notes.txt").wants(15).says("notes.txt")
	s.run("delta inspect notes.txt").wants(15).says("notes.txt")
	s.run("delta inspect .").wants(2).says("give a file")

	var file bytes.Buffer
	from := homeward.Generation{}.Next()
	machine := homeward.Machine{Item: "web01", Name: "web01", Disks: []homeward.Disk{{ID: "d0", Size: diskSize}}}
	e, err := delta.NewEncoder(&file, delta.Header{
		Kind: delta.Forward, Item: "web01", Disks: []delta.DiskInfo{{ID: "d0", Size: diskSize}}, Machine: &machine,
		Follows: homeward.Position{}.Base(from), To: homeward.Position{Generation: from, Sequence: 1},
	}, delta.EncoderOptions{})
	if err == nil {
		err = e.Add(0, 1, block1())
	}
	if err == nil {
		err = e.AddZero(0, 4, 2)
	}
	if err == nil {
		_, err = e.Close(homeward.Mark{Kind: homeward.MarkCrash})
	}
	if err == nil {
		err = durable.WriteFile(durable.OS(), s.path("1.delta"), file.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.run("delta verify 1.delta").wants(0, "whole, 3 blocks")
}

func TestCLI_ReadyLine(t *testing.T) {
	r := ready{Ready: true, Peer: pki.Peer{Role: pki.Agent, Name: "a1"}}
	bare := r.String()
	r.Listen, r.Sockets = "127.0.0.1:7443", "/run/homeward"
	if full := r.String(); full != bare+", listening on 127.0.0.1:7443, sockets in /run/homeward" || bare != "ready: "+r.Peer.String() {
		t.Errorf("%q and %q", bare, full)
	}
}

func TestCLI_UntilInterrupted(t *testing.T) {
	for kind, fate := range map[homeward.ViewKind]string{
		homeward.ViewReadOnly: "", homeward.ViewScratch: "; what is written is dropped then",
		homeward.ViewDurable: "; what is written is kept in mt/web01, and the same command serves it again",
	} {
		if got := untilInterrupted(homeward.View{Kind: kind}, "mt/web01"); got != "press Ctrl-C to end"+fate {
			t.Errorf("%s: %q", kind, got)
		}
	}
}

// Offline commands on a directory that is no volume leave it as it is.
func TestCLI_NoVolume(t *testing.T) {
	s := newShell(t)
	s.run("pki init --ca ca").wants(0)
	before, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"points", "verify", "serve", "recover"} {
		for _, dir := range []string{".", "ca", "nowhere"} {
			s.run("master-target "+line+" --dir "+dir).wants(3).says("no replica here", "give the directory of a master target, such as DIR/mt-away")
		}
	}
	if after, err := os.ReadDir(s.dir); err != nil || len(after) != len(before) {
		t.Errorf("left %v: %v", after, err)
	}
}

func TestFaultHook(t *testing.T) {
	for _, bad := range []string{"point:", "point:0", "point:-1", "point:x", "[:1"} {
		if _, err := faultHook(bad); homeward.KindOf(err) != homeward.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if hook, err := faultHook(""); hook != nil || err != nil {
		t.Errorf("without a fault: %v", err)
	}
	hook, err := faultHook("undo:2")
	if err != nil {
		t.Fatal(err)
	}
	hook("other")
	hook("other")
	hook("undo") // only the second pass kills
	if hook, err = faultHook("fs.sync *.undo:2"); err != nil {
		t.Fatal(err)
	}
	hook("fs.sync 1.undo")
	hook("fs.sync 1.tip")
}
