package api

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/homeward-dr/homeward/vault"
)

// maxSeries is the most items that have series of their own: more are left out,
// and homeward_items_left_out says how many.
const maxSeries = 10000

// metrics is what Prometheus reads. What an item or node is like is asked of the
// vault at each scrape; how long jobs took is counted as they end.
type metrics struct {
	vault    vault.Vault
	log      *slog.Logger
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	jobs     *prometheus.HistogramVec
}

func newMetrics(v vault.Vault, log *slog.Logger) *metrics {
	m := &metrics{vault: v, log: log, registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "homeward_http_request_seconds", Help: "Time to answer a request, streams of events included.",
			Buckets: []float64{.005, .02, .1, .5, 2, 10, 60},
		}, []string{"method", "route", "code"}),
		jobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "homeward_job_seconds", Help: "Time jobs took that ended since this process began.",
			Buckets: []float64{1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
		}, []string{"scenario", "result"}),
	}
	m.registry.MustRegister(m.requests, m.jobs, &facts{vault: v, log: log})
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelWarn), MaxRequestsInFlight: 4})
}

// request counts an answer under its route, of which there are only so many. What
// is no operation counts together, whatever it was called.
func (m *metrics) request(r *http.Request, status int, took time.Duration) {
	method, route, known := strings.Cut(r.Pattern, " ")
	if !known {
		method, route = "other", "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

// follow counts jobs as they end, until ctx does.
func (m *metrics) follow(ctx context.Context) {
	ctx = vault.WithCaller(ctx, itself)
	var counted []string // the newest that were, so that a later change does not count again
	for ctx.Err() == nil {
		for event, err := range m.vault.Watch(ctx, vault.WatchRequest{Kinds: []string{"job"}}) {
			if err != nil {
				m.log.Warn("cannot follow jobs for the metrics, trying again", "err", err)
				break
			}
			if slices.Contains(counted, event.Subject) {
				continue
			}
			job, err := m.vault.Job(ctx, event.Subject)
			if err != nil || !job.State.Ended() {
				continue
			}
			m.jobs.WithLabelValues(job.Scenario, string(job.State)).Observe(job.Ended.Sub(job.Started).Seconds())
			if counted = append(counted, event.Subject); len(counted) > 1000 {
				counted = slices.Delete(counted, 0, 500)
			}
		}
		if backOff(ctx, 4) != nil {
			return
		}
	}
}

// facts asks the vault at each scrape.
type facts struct {
	vault vault.Vault
	log   *slog.Logger
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("homeward_"+name, help, labels, nil)
}

var (
	itemRPO       = describe("item_rpo_seconds", "Age of the newest applied recovery point; absent: not known.", "item")
	itemLag       = describe("item_lag_bytes", "Written at the source and not yet applied.", "item")
	itemPoints    = describe("item_points", "Recovery points.", "item")
	itemSpool     = describe("item_spool_bytes", "Waiting at the process server.", "item")
	itemRetention = describe("item_retention_bytes", "Kept for older recovery points.", "item")
	itemReady     = describe("item_failback_ready", "1 when nothing stands in the way of a failback.", "item")
	itemsLeftOut  = describe("items_left_out", "Items beyond the most that have series of their own.")
	nodeCount     = describe("nodes", "Enrolled nodes.", "role", "state")
	jobsRunning   = describe("jobs_running", "Jobs under way.")
	vaultReadOnly = describe("vault_read_only", "1 while a restored vault waits to be reconciled.")
	vaultUp       = describe("vault_up", "1 when all of the vault answered this scrape.")
)

// Describe is part of prometheus.Collector.
func (f *facts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{itemRPO, itemLag, itemPoints, itemSpool, itemRetention, itemReady, itemsLeftOut, nodeCount, jobsRunning, vaultReadOnly, vaultUp} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (f *facts) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(vault.WithCaller(context.Background(), itself), 10*time.Second)
	defer cancel()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	up := 1.0
	for _, part := range []func() error{
		func() error { return f.items(ctx, gauge) },
		func() error { return f.nodes(ctx, gauge) },
		func() error {
			status, err := f.vault.Status(ctx)
			if err == nil {
				gauge(jobsRunning, float64(status.Running))
				gauge(vaultReadOnly, truth(status.ReadOnly))
			}
			return err
		},
	} {
		if err := part(); err != nil {
			f.log.Warn("metrics are incomplete", "err", err)
			up = 0
		}
	}
	gauge(vaultUp, up)
}

type gaugeFunc func(d *prometheus.Desc, value float64, labels ...string)

func (f *facts) items(ctx context.Context, gauge gaugeFunc) error {
	told := 0
	err := every(ctx, f.vault.Items, func(i vault.Item) {
		if told++; told > maxSeries {
			return
		}
		id := string(i.ID)
		if i.Replication.RPO >= 0 {
			gauge(itemRPO, i.Replication.RPO, id)
		}
		gauge(itemLag, float64(i.Replication.LagBytes), id)
		gauge(itemPoints, float64(i.Replication.Points), id)
		gauge(itemSpool, float64(i.Replication.SpoolBytes), id)
		gauge(itemRetention, float64(i.Replication.Retention), id)
		gauge(itemReady, truth(i.Score.Ready), id)
	})
	gauge(itemsLeftOut, float64(max(0, told-maxSeries)))
	return err
}

func (f *facts) nodes(ctx context.Context, gauge gaugeFunc) error {
	type kind struct{ role, state string }
	count := map[kind]int{}
	err := every(ctx, f.vault.Nodes, func(n vault.Node) { count[kind{string(n.Role), string(n.State)}]++ })
	for k, n := range count {
		gauge(nodeCount, float64(n), k.role, k.state)
	}
	return err
}

// every calls do for each entry of a list.
func every[T any](ctx context.Context, list func(context.Context, vault.Query) (vault.Page[T], error), do func(T)) error {
	q := vault.Query{Limit: vault.MaxPage}
	for {
		page, err := list(ctx, q)
		if err != nil {
			return err
		}
		for _, entry := range page.Entries {
			do(entry)
		}
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
