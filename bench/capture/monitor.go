package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// monitor speaks QMP, one request at a time.
type monitor struct {
	conn   net.Conn
	in     *json.Decoder
	events []event // heard and not yet waited for
}

// event is what QEMU tells by itself.
type event struct {
	Name string `json:"event"`
	Data struct {
		Device string `json:"device"`
		Error  string `json:"error"`
	} `json:"data"`
}

// message is anything that QEMU says.
type message struct {
	event
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Text string `json:"desc"`
	} `json:"error"`
}

// openMonitor connects to a monitor's unix socket.
func openMonitor(ctx context.Context, socket string) (*monitor, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn: conn, in: json.NewDecoder(conn)}
	var greeting json.RawMessage
	if err := m.in.Decode(&greeting); err != nil {
		_ = conn.Close() // it is of no use
		return nil, fmt.Errorf("QMP greeting: %w", err)
	}
	return m, m.do("qmp_capabilities", nil)
}

func (m *monitor) close() error { return m.conn.Close() }

// patience bounds the wait for an answer or an event.
const patience = time.Minute

// do carries out a command.
func (m *monitor) do(command string, arguments map[string]any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := m.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("QMP %s: %w", command, err)
	}
	for {
		var got message
		if err := m.in.Decode(&got); err != nil {
			return fmt.Errorf("QMP %s: %w", command, err)
		}
		switch {
		case got.Error != nil:
			return fmt.Errorf("QMP %s: %s", command, got.Error.Text)
		case got.Return != nil:
			return nil
		}
		m.events = append(m.events, got.event)
	}
}

// await returns when a job has told an event of this name. A job that ends in
// another way, or with an error, is an error.
func (m *monitor) await(job, name string) error {
	if err := m.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for {
		for len(m.events) > 0 {
			e := m.events[0]
			m.events = m.events[1:]
			switch {
			case e.Data.Device != job:
			case e.Data.Error != "" || e.Name == "BLOCK_JOB_ERROR":
				return fmt.Errorf("job %s: %s %s", job, e.Name, e.Data.Error)
			case e.Name == name:
				return nil
			case e.Name == "BLOCK_JOB_COMPLETED", e.Name == "BLOCK_JOB_CANCELLED":
				return fmt.Errorf("job %s: %s instead of %s", job, e.Name, name)
			}
		}
		var got message
		if err := m.in.Decode(&got); err != nil {
			return fmt.Errorf("wait for %s of job %s: %w", name, job, err)
		}
		m.events = append(m.events, got.event)
	}
}
