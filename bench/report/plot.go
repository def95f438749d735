package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/homeward-dr/homeward/bench/measure"
)

// palette can be told apart by those who see colours differently (Okabe and Ito).
var palette = []color.RGBA{
	{0x00, 0x72, 0xB2, 0xFF}, {0xE6, 0x9F, 0x00, 0xFF}, {0x00, 0x9E, 0x73, 0xFF}, {0xD5, 0x5E, 0x00, 0xFF},
	{0xCC, 0x79, 0xA7, 0xFF}, {0x56, 0xB4, 0xE9, 0xFF}, {0x8C, 0x8C, 0x8C, 0xFF}, {0xB8, 0xA9, 0x00, 0xFF},
}

const (
	width  = 18 * vg.Centimeter
	height = 9 * vg.Centimeter
)

// drawing is a chart of one metric.
type drawing struct {
	spec       measure.Plot
	series     []measure.Series
	contenders []string
	xs         []string // values along the axis, in the order of the series
}

// svg draws the plot of a figure.
func svg(f measure.Figure, spec measure.Plot) ([]byte, error) {
	d := drawing{spec: spec, contenders: spec.Contenders}
	for _, s := range f.Series {
		if !spec.Select.Takes(s) || s.Label(spec.X) == "" {
			continue
		}
		d.series = append(d.series, s)
		if x := s.Label(spec.X); !slices.Contains(d.xs, x) {
			d.xs = append(d.xs, x)
		}
		for _, c := range s.Contenders() {
			if len(spec.Contenders) == 0 && !slices.Contains(d.contenders, c) {
				d.contenders = append(d.contenders, c)
			}
		}
	}
	p := plot.New()
	p.Title.Text = spec.Title
	p.X.Label.Text = spec.X
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.Padding = vg.Points(2)
	p.BackgroundColor = color.White
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Title.Padding = vg.Points(6)
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	p.Add(grid)
	var err error
	if spec.Kind == measure.Bars {
		err = d.bars(p)
	} else {
		err = d.lines(p)
	}
	if err != nil {
		return nil, fmt.Errorf("plot %s: %w", spec.Name, err)
	}
	p.Y.Tick.Marker = ticks{unit: spec.Unit, log: spec.LogY}
	if spec.LogY {
		p.Y.Scale = plot.LogScale{}
		p.Y.Max *= 4 // room for the legend
	} else {
		p.Y.Min = 0
		p.Y.Max *= 1.35
	}
	return render(p)
}

func render(p *plot.Plot) ([]byte, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.Crop(draw.New(c), vg.Points(8), -vg.Points(12), vg.Points(2), -vg.Points(6))) // fonts of viewers are wider
	var b strings.Builder
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	return []byte(b.String()), nil
}

// at is what a contender was measured at where the axis has x.
func (d *drawing) at(contender, x string) measure.Spread {
	for _, s := range d.series {
		if s.Label(d.spec.X) == x {
			if sp := s.Of(contender, d.spec.Metric); sp.N > 0 {
				return sp
			}
		}
	}
	return measure.Spread{}
}

// points are a contender's spreads with their places on the axis.
type points struct {
	plotter.XYs
	plotter.YErrors
}

// bars stand in groups, one for each value of the axis. They are boxes drawn by
// hand: a bar chart of the library cannot stand on a logarithmic axis.
func (d *drawing) bars(p *plot.Plot) error {
	w := 0.8 / float64(len(d.contenders))
	floor := d.floor()
	for i, c := range d.contenders {
		var pts points
		for j, x := range d.xs {
			s := d.at(c, x)
			if s.N == 0 {
				continue
			}
			left := float64(j) - 0.4 + w*float64(i)
			box, err := plotter.NewPolygon(plotter.XYs{{X: left, Y: floor}, {X: left, Y: s.Median}, {X: left + w*0.92, Y: s.Median}, {X: left + w*0.92, Y: floor}})
			if err != nil {
				return err
			}
			box.Color = palette[i%len(palette)]
			box.LineStyle.Width = 0
			p.Add(box)
			if len(pts.XYs) == 0 {
				p.Legend.Add(c, box)
			}
			pts.XYs = append(pts.XYs, plotter.XY{X: left + w*0.46, Y: s.Median})
			pts.YErrors = append(pts.YErrors, struct{ Low, High float64 }{s.Median - s.Min, s.Max - s.Median})
		}
		if err := whiskers(p, pts); err != nil {
			return err
		}
	}
	p.NominalX(d.xs...)
	return nil
}

// floor is where bars stand: zero, or below all values where the axis has none.
func (d *drawing) floor() float64 {
	if !d.spec.LogY {
		return 0
	}
	least := math.Inf(1)
	for _, c := range d.contenders {
		for _, x := range d.xs {
			if s := d.at(c, x); s.N > 0 && s.Min > 0 {
				least = min(least, s.Min)
			}
		}
	}
	if math.IsInf(least, 1) {
		return 1
	}
	return math.Pow(10, math.Floor(math.Log10(least)))
}

func whiskers(p *plot.Plot, pts points) error {
	if len(pts.XYs) == 0 {
		return nil
	}
	e, err := plotter.NewYErrorBars(pts)
	if err != nil {
		return err
	}
	e.CapWidth = vg.Points(3)
	p.Add(e)
	return nil
}

func (d *drawing) lines(p *plot.Plot) error {
	for i, c := range d.contenders {
		var pts points
		for j, x := range d.xs {
			s := d.at(c, x)
			if s.N == 0 {
				continue
			}
			place, err := d.place(j, x)
			if err != nil {
				return err
			}
			pts.XYs = append(pts.XYs, plotter.XY{X: place, Y: s.Median})
			pts.YErrors = append(pts.YErrors, struct{ Low, High float64 }{s.Median - s.Min, s.Max - s.Median})
		}
		if len(pts.XYs) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(pts.XYs)
		if err != nil {
			return err
		}
		line.Color, dots.Color = palette[i%len(palette)], palette[i%len(palette)]
		line.Width = vg.Points(1.5)
		dots.Shape = draw.CircleGlyph{}
		p.Add(line, dots)
		p.Legend.Add(c, line, dots)
		if err := whiskers(p, pts); err != nil {
			return err
		}
	}
	if !d.spec.LogX {
		p.NominalX(d.xs...)
		return nil
	}
	p.X.Scale = plot.LogScale{}
	var marks []plot.Tick
	for j, x := range d.xs {
		place, err := d.place(j, x)
		if err != nil {
			return err
		}
		marks = append(marks, plot.Tick{Value: place, Label: x})
	}
	p.X.Tick.Marker = plot.ConstantTicks(marks)
	return nil
}

// place of a value along the axis: its rank, or itself where the axis has a scale.
func (d *drawing) place(rank int, x string) (float64, error) {
	if !d.spec.LogX {
		return float64(rank), nil
	}
	return number(x)
}

// number reads "0.1", "10 %", "8 GiB", "100 ms" up to the unit's first letter, with
// the binary and time prefixes that labels use.
func number(s string) (float64, error) {
	digits := strings.TrimRight(s, "%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/ ")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, fmt.Errorf("label %q is no number", s)
	}
	switch unit := strings.TrimSpace(s[len(digits):]); {
	case strings.HasPrefix(unit, "K"):
		v *= 1 << 10
	case strings.HasPrefix(unit, "M"):
		v *= 1 << 20
	case strings.HasPrefix(unit, "G"):
		v *= 1 << 30
	case strings.HasPrefix(unit, "T"):
		v *= 1 << 40
	case unit == "ms":
		v /= 1000
	}
	return v, nil
}

// ticks writes the marks of an axis in the metric's unit.
type ticks struct {
	unit measure.Unit
	log  bool
}

// Ticks implements plot.Ticker.
func (t ticks) Ticks(low, high float64) []plot.Tick {
	var base plot.Ticker = plot.DefaultTicks{}
	if t.log {
		base = plot.LogTicks{Prec: -1}
	}
	all := base.Ticks(low, high)
	for i := range all {
		if all[i].Label != "" {
			all[i].Label = write(all[i].Value, t.unit)
		}
	}
	return all
}
