package main

import (
	"image/color"
	"os"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/shard-io/shard-controller/internal/loadsim"
)

var (
	black = color.RGBA{0x33, 0x33, 0x33, 0xff}
	blue  = color.RGBA{0x1f, 0x77, 0xb4, 0xff}
	red   = color.RGBA{0xd6, 0x27, 0x28, 0xff}
	green = color.RGBA{0x2c, 0xa0, 0x2c, 0xff}
)

// mostPoints is how many points a line has at most.
const mostPoints = 360

// curve is a line of a chart.
type curve struct {
	name   string
	color  color.Color
	dashed bool
	result loadsim.Result
	value  func(loadsim.Point) float64
}

// chart draws load, shards, imbalance and moves over time, one below the other, and the shards of the HorizontalPodAutoscaler on the same load.
func chart(path string, ours, hpa loadsim.Result) error {
	wanted := func(p loadsim.Point) float64 { return float64(p.Wanted) }
	panels := []struct {
		title  string
		curves []curve
	}{
		{"demand and shards", []curve{
			{"demand, in full shards", black, false, ours, func(p loadsim.Point) float64 { return p.Demand }},
			{"shards", blue, false, ours, wanted},
			{"shards by HPA", red, true, hpa, wanted},
		}},
		{"mean load", []curve{
			{"load", blue, false, ours, func(p loadsim.Point) float64 { return p.Load }},
			{"load with HPA", red, true, hpa, func(p loadsim.Point) float64 { return p.Load }},
		}},
		{"largest load / mean", []curve{
			{"imbalance", green, false, ours, func(p loadsim.Point) float64 { return p.Imbalance }},
		}},
		{"objects moved", []curve{
			{"planner and joins", green, false, ours, func(p loadsim.Point) float64 { return float64(p.Moved) }},
		}},
	}
	plots := make([][]*plot.Plot, len(panels))
	for i, panel := range panels {
		p, err := draws(panel.curves, i == len(panels)-1)
		if err != nil {
			return err
		}
		if i == 0 {
			p.Title.Text = strings.ReplaceAll(ours.Name, "-", " ")
		}
		p.Y.Label.Text = panel.title
		plots[i] = []*plot.Plot{p}
	}
	canvas := vgsvg.New(20*vg.Centimeter, 24*vg.Centimeter)
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadTop: vg.Points(4), PadBottom: vg.Points(4), PadLeft: vg.Points(4), PadRight: vg.Points(8), PadY: vg.Points(8)}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		plots[i][0].Draw(row[0])
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// draws returns a panel with the curves.
func draws(curves []curve, last bool) (*plot.Plot, error) {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left, p.Legend.YOffs = true, true, -vg.Points(5)
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	if last {
		p.X.Label.Text = "minutes"
	}
	for _, c := range curves {
		points, unit := c.points()
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = c.color, vg.Points(1.2)
		line.StepStyle = plotter.PostStep
		if c.dashed {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.Legend.Add(c.name, line)
		if last {
			p.X.Label.Text = unit
		}
		p.Y.Max = max(p.Y.Max, 1)
	}
	p.Y.Min = 0
	p.Y.Max *= 1.25 // room for the legend
	return p, nil
}

// points thins a curve out: of each group of points the largest value counts, or peaks would be lost.
func (c curve) points() (plotter.XYs, string) {
	all := c.result.Points
	per, unit := time.Minute, "minutes"
	if all[len(all)-1].At > 4*time.Hour {
		per, unit = time.Hour, "hours"
	}
	group := max(1, (len(all)+mostPoints-1)/mostPoints)
	points := make(plotter.XYs, 0, mostPoints)
	for i := 0; i < len(all); i += group {
		highest := c.value(all[i])
		for _, p := range all[i:min(len(all), i+group)] {
			highest = max(highest, c.value(p))
		}
		if n := len(points); n == 0 || points[n-1].Y != highest { // lines are steps: what stays the same need not be said
			points = append(points, plotter.XY{X: float64(all[i].At) / float64(per), Y: highest})
		}
	}
	last := all[len(all)-1]
	return append(points, plotter.XY{X: float64(last.At) / float64(per), Y: points[len(points)-1].Y}), unit
}
