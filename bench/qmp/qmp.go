// Package qmp speaks to a QEMU program's monitor.
package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Monitor is a connection to a monitor, for one request at a time.
type Monitor struct {
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

// Open connects to a monitor's unix socket.
func Open(ctx context.Context, socket string) (*Monitor, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	m := &Monitor{conn: conn, in: json.NewDecoder(conn)}
	var greeting json.RawMessage
	err = m.in.Decode(&greeting)
	if err == nil {
		err = m.Do("qmp_capabilities", nil)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("QMP greeting: %w", err), conn.Close())
	}
	return m, nil
}

// Close ends the connection; what runs goes on.
func (m *Monitor) Close() error { return m.conn.Close() }

// answering bounds the wait for an answer; a job's end is waited for without bound.
const answering = time.Minute

// Do carries out a command. The error is what QEMU says.
func (m *Monitor) Do(command string, arguments map[string]any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := m.conn.SetDeadline(time.Now().Add(answering)); err != nil {
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

// Await returns when a job has told an event of this name. A job that ends in
// another way, or with an error, is an error.
func (m *Monitor) Await(ctx context.Context, job, name string) error {
	if err := m.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	giveUp := context.AfterFunc(ctx, func() { _ = m.conn.SetDeadline(time.Now()) })
	defer giveUp()
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
