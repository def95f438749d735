package measure

import "time"

// Result is everything one invocation found.
type Result struct {
	Began   time.Time         `json:"began"`
	Took    float64           `json:"took_seconds"`
	Full    bool              `json:"full"` // false: the quick mode
	Rounds  int               `json:"rounds"`
	Seed    uint64            `json:"seed"`
	Machine Machine           `json:"machine"`
	Tools   map[string]string `json:"tools"` // name: version, or "missing: why"
	Figures []Figure          `json:"figures"`
}

// Machine is where it was measured.
type Machine struct {
	Processor  string  `json:"processor"`
	Processors int     `json:"processors"`
	MemoryMiB  int64   `json:"memory_mib"`
	Kernel     string  `json:"kernel"`
	System     string  `json:"system"`      // the distribution
	FileSystem string  `json:"file_system"` // of the working directory
	Go         string  `json:"go"`
	Homeward   string  `json:"homeward"` // version
	Load       float64 `json:"load"`     // load average of a minute, before the first run
}

// Figure is one question with its answer: series, and how they are to be shown.
type Figure struct {
	Name   string   `json:"name"`  // "capture", "reprotect"
	Title  string   `json:"title"` // as a heading
	What   string   `json:"what"`  // what was done, so that it can be done again; Markdown
	Series []Series `json:"series"`
	Tables []Table  `json:"tables"`
	Plots  []Plot   `json:"plots"`
	Goals  []Goal   `json:"goals"`
	Notes  []string `json:"notes,omitempty"`
	// When and how it was taken: figures of several runs may be joined.
	Began time.Time `json:"began"`
	Took  float64   `json:"took_seconds"`
	Full  bool      `json:"full"`            // false: in the quick mode
	Error string    `json:"error,omitempty"` // it was not finished, and why
}

// Select picks series: those that have all these labels.
type Select []Label

// Takes reports that the series has all the labels.
func (l Select) Takes(s Series) bool {
	for _, want := range l {
		if s.Label(want.Name) != want.Value {
			return false
		}
	}
	return true
}

// Table shows series as rows.
type Table struct {
	Title   string   `json:"title"`
	Select  Select   `json:"select,omitempty"`
	Rows    []string `json:"rows"` // names of the labels that name a row
	Columns []Column `json:"columns"`
}

// Column is a metric of a contender; with Over set, its ratio to that contender's.
type Column struct {
	Head      string `json:"head"`
	Contender string `json:"contender"`
	Metric    string `json:"metric"`
	Over      string `json:"over,omitempty"`
	Unit      Unit   `json:"unit,omitempty"`
	Spread    bool   `json:"spread,omitempty"` // min and max too
}

// Unit is how a value is written.
type Unit string

// The units; metrics are in the base unit: seconds, bytes.
const (
	Plain   Unit = ""        // 12,345
	Times   Unit = "×"       // 1.23
	Seconds Unit = "s"       // 1.23 s, 12 ms, 52 µs
	Bytes   Unit = "B"       // 12.3 MiB
	Rate    Unit = "B/s"     // 123 MB/s
	Percent Unit = "percent" // a share: 0.12 is 12 %
)

// Plot is a chart of medians, with bars from min to max.
type Plot struct {
	Name       string   `json:"name"` // of the SVG file, without its ending
	Title      string   `json:"title"`
	Select     Select   `json:"select,omitempty"`
	Kind       PlotKind `json:"kind"`
	X          string   `json:"x"` // name of the label along the axis
	Metric     string   `json:"metric"`
	Unit       Unit     `json:"unit,omitempty"`
	Contenders []string `json:"contenders,omitempty"` // empty: all
	LogX       bool     `json:"log_x,omitempty"`      // the label's values are numbers then (sizes like "8GiB" count)
	LogY       bool     `json:"log_y,omitempty"`
}

// PlotKind is the form of a plot.
type PlotKind string

// The kinds of plots.
const (
	Bars  PlotKind = "bars"  // a group for each value of X
	Lines PlotKind = "lines" // a line for each contender; X in the order of the series
)

// Goal is a number that Homeward set itself.
type Goal struct {
	Text string  `json:"text"` // "wire ≤ 1.10 × dirty"
	Want float64 `json:"want"`
	Have float64 `json:"have"`
	Most bool    `json:"most"` // Want is the most; else the least
	Unit Unit    `json:"unit,omitempty"`
	// Unknown says why it was not measured; Have means nothing then, and it is not met.
	Unknown string `json:"unknown,omitempty"`
	Why     string `json:"why,omitempty"` // where it is missed
}

// Met reports that the goal is held.
func (g Goal) Met() bool {
	if g.Unknown != "" {
		return false
	}
	if g.Most {
		return g.Have <= g.Want
	}
	return g.Have >= g.Want
}
