package system

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/homeward-dr/homeward/test/stage"
)

// The medium of a replica fails writes, or flushes, for a while. The guest runs
// on; the fault is told with what to do; and once that is done nothing is missing.
func TestReplicaMediumFails(t *testing.T) {
	need(t, "nbdkit")
	for _, what := range []string{"pwrite", "pread"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := build(t, stage.Options{})
			trigger := filepath.Join(r.Dir, "fail")
			socket := filepath.Join(r.Dir, "medium.sock")
			image := filepath.Join(r.Dir, "medium.raw")
			r.must(os.WriteFile(image, nil, 0o600))
			r.must(os.Truncate(image, r.Machine().Disks[0].Size))
			medium := exec.Command("nbdkit", "-f", "-U", socket, "--filter=error", "file", image,
				"error-"+what+"=EIO", "error-"+what+"-rate=100%", "error-"+what+"-file="+trigger)
			medium.Stderr = t.Output()
			r.must(medium.Start())
			t.Cleanup(func() {
				_ = medium.Process.Kill()
				_ = medium.Wait()
			})
			r.eventually("nbdkit to listen", func() (bool, error) {
				_, err := os.Stat(socket)
				return err == nil, nil
			})
			r.Away.Side.Disks[0] = "nbd+unix:///?socket=" + socket
			r.must(r.Item.Protect(r.ctx))
			r.hear(r.Home, 0)
			r.write(20)
			r.replicated()
			r.must(os.WriteFile(trigger, nil, 0o600))
			r.write(100)
			r.eventually("somebody to tell of the fault", func() (bool, error) { return len(r.said()) > 0, nil })
			for _, s := range r.said() {
				t.Log(s)
			}
			r.write(50)
			r.must(os.Remove(trigger))
			r.Away.Target.Kill() // as the remedy says
			r.must(r.Restart(r.ctx, r.Away.Target))
			r.replicated()
			r.prove()
		})
	}
}
