package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// begun answers for a job that was started: it says how to follow it, or waits.
func (r *remote) begun(ctx context.Context, v vault.Vault, j vault.Job, wait bool) error {
	if wait {
		return r.waitWithChildren(ctx, v, j.ID)
	}
	what := strings.TrimSpace(strings.ToLower(j.Title) + " " + string(j.Item)) // a move of many items is of none
	return r.print(j, "job %s: %s; follow it with 'homeward job wait %s'", j.ID, what, j.ID)
}

// waitWithChildren waits for a job, then for those it began: of a reprotect, the
// one that ends with the first recovery point.
func (r *remote) waitWithChildren(ctx context.Context, v vault.Vault, id string) error {
	waited := map[string]bool{}
	for next := []string{id}; len(next) > 0; next = next[1:] {
		if waited[next[0]] {
			continue
		}
		waited[next[0]] = true
		j, err := r.waitJob(ctx, v, next[0])
		if err != nil {
			return err
		}
		children, err := childrenOf(ctx, v, j)
		if err != nil {
			return err
		}
		next = append(next, children...)
	}
	return nil
}

// childrenOf are the jobs that a job began.
func childrenOf(ctx context.Context, v vault.Vault, j vault.Job) ([]string, error) {
	var ids []string
	var fromTasks func([]vault.Task)
	fromTasks = func(tasks []vault.Task) {
		for _, t := range tasks {
			if t.Job != "" {
				ids = append(ids, t.Job)
			}
			fromTasks(t.Children)
		}
	}
	fromTasks(j.Tasks)
	if j.Item == "" {
		return ids, nil
	}
	for other, err := range jobs.each(ctx, v, vault.Query{Item: string(j.Item)}) {
		if err != nil {
			return nil, err
		}
		if other.Parent == j.ID && !slices.Contains(ids, other.ID) {
			ids = append(ids, other.ID)
		}
	}
	return ids, nil
}

// waitJob shows a job until it ends, or waits for a person. Ended otherwise than
// well it is an error with an exit code of its own.
func (r *remote) waitJob(ctx context.Context, v vault.Vault, id string) (vault.Job, error) {
	var j vault.Job
	view := jobView{remote: r, said: map[string]string{}}
	err := r.follow(ctx, v, []string{"job"}, func(ctx context.Context) (bool, error) {
		now, err := v.Job(ctx, id)
		if err != nil {
			return false, err
		}
		j = now
		return j.State.Ended() || j.State == vault.JobPaused, view.show(j)
	})
	if err != nil {
		return j, err
	}
	if !j.State.Ended() && j.State != vault.JobPaused {
		return j, homeward.Errorf("wait for job", homeward.Canceled, id, "the job goes on: 'homeward job wait "+id+"'", "interrupted")
	}
	if r.json {
		if err := r.printJSON(j); err != nil {
			return j, err
		}
	}
	if err := r.predicted(j); err != nil {
		return j, err
	}
	return j, ended(j)
}

// ended is nil for a job that succeeded.
func ended(j vault.Job) error {
	code := map[vault.JobState]int{vault.JobFailed: exitJobFailed, vault.JobPaused: exitJobPaused, vault.JobCancelled: exitJobCancelled}[j.State]
	if code == 0 {
		return nil
	}
	kind, remedy, why := homeward.Conflict, "", string(j.State)
	if j.State == vault.JobPaused {
		remedy = "look at its tasks, then 'homeward job retry', 'skip' or 'abort' " + j.ID
		if t := pausedTask(j.Tasks); t != nil && t.Why != "" {
			why = "it waits for a person: " + t.Why
		}
	}
	if j.Error != nil {
		kind, remedy, why = j.Error.Kind, j.Error.Remedy, j.Error.Message
	}
	return &exitError{code, homeward.Errorf(strings.ToLower(j.Title), kind, "job "+j.ID, remedy, "%s", why)}
}

func pausedTask(tasks []vault.Task) *vault.Task {
	for i := range tasks {
		if t := pausedTask(tasks[i].Children); t != nil {
			return t
		}
		if tasks[i].State == vault.TaskPaused {
			return &tasks[i]
		}
	}
	return nil
}

// jobView shows a job as it moves: on a terminal its tasks are redrawn in place, in
// a pipe each change is a line.
type jobView struct {
	*remote
	said  map[string]string
	drawn int // lines on the terminal
}

func (w *jobView) show(j vault.Job) error {
	if w.json {
		return nil
	}
	if w.tty.out {
		return w.redraw(j)
	}
	if err := w.say("job "+j.ID, string(j.State), fmt.Sprintf("job %s: %s: %s", j.ID, j.Title, j.State)); err != nil {
		return err
	}
	return w.sayTasks(j.ID+"/", j.Tasks, "  ")
}

func (w *jobView) sayTasks(path string, tasks []vault.Task, indent string) error {
	for i, t := range tasks {
		key := fmt.Sprintf("%s%d %s", path, i, t.Name)
		if t.State != vault.TaskNotStarted {
			// Progress is told in steps of a tenth.
			state := fmt.Sprint(t.State, t.Why, t.Attempts, percent(t.Progress)/10)
			if err := w.say(key, state, indent+taskLine(t)); err != nil {
				return err
			}
		}
		if err := w.sayTasks(key+"/", t.Children, indent+"  "); err != nil {
			return err
		}
	}
	return nil
}

// say writes a line if its subject is not as it was.
func (w *jobView) say(subject, state, text string) error {
	if w.said[subject] == state {
		return nil
	}
	w.said[subject] = state
	return w.line("%s", text)
}

func (w *jobView) redraw(j vault.Job) error {
	lines := append([]string{fmt.Sprintf("job %s: %s %s: %s", j.ID, j.Title, j.Item, j.State)}, taskLines(j.Tasks, "  ")...)
	back := ""
	if w.drawn > 0 {
		back = fmt.Sprintf("\x1b[%dA\x1b[J", w.drawn)
	}
	w.drawn = 0
	for _, l := range lines {
		w.drawn += 1 + w.wraps(l)
	}
	_, err := fmt.Fprint(w.out, back+strings.Join(lines, "\n")+"\n")
	return err
}

// wraps is how many lines more than one a terminal makes of it.
func (w *jobView) wraps(line string) int {
	width := w.width()
	if width == 0 {
		return 0
	}
	return max(0, utf8.RuneCountInString(line)-1) / width
}

func taskLines(tasks []vault.Task, indent string) []string {
	var lines []string
	for _, t := range tasks {
		lines = append(lines, indent+taskLine(t))
		lines = append(lines, taskLines(t.Children, indent+"  ")...)
	}
	return lines
}

// taskLine is a task in a line: state, progress, why.
func taskLine(t vault.Task) string {
	s := fmt.Sprintf("%-11s  %s", t.State, t.Title)
	if t.State == vault.TaskRunning && !t.Cancellable {
		s += " (cannot be cancelled)"
	}
	if p := progress(t.Progress); p != "" && t.State != vault.TaskSucceeded {
		s += "  " + p
	}
	if !t.Started.IsZero() && !t.Ended.IsZero() {
		s += "  " + span(t.Ended.Sub(t.Started))
	}
	if t.Why != "" {
		s += " (" + t.Why + ")"
	}
	if t.Error != nil && t.Error.Message != t.Why {
		s += ": " + t.Error.Message
	}
	return s
}
