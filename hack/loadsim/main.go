// Loadsim plays the scenarios of internal/loadsim and writes what comes of them into the documentation: charts into docs/img, and the
// tables of docs/scaling.md between its markers. Run it from its own directory, or with make sim-load.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/shard-io/shard-controller/internal/loadsim"
)

func main() {
	docs := flag.String("docs", "../../docs", "directory of the documentation, in which scaling.md and img/ are written")
	days := flag.Int("days", 7, "how many days of daily waves are played, 2 at least")
	flag.Parse()
	if err := write(*docs, *days); err != nil {
		fmt.Fprintln(os.Stderr, "loadsim:", err)
		os.Exit(1)
	}
}

// hpaTarget is the target of the HorizontalPodAutoscaler that the scaler is compared with: the one with which it needs about as many shard-hours.
const hpaTarget = 0.7

func newHPA(target float64) *loadsim.HPA { return &loadsim.HPA{Min: 2, Max: 20, Target: target} }

func write(docs string, days int) error {
	if days < 2 {
		return fmt.Errorf("days: %d, must be at least 2", days)
	}
	var scenarios, waves bytes.Buffer
	fmt.Fprintln(&scenarios, scenarioHead)
	for _, s := range loadsim.Scenarios() {
		ours, err := loadsim.Run(s)
		if err != nil {
			return err
		}
		s.Decide, s.Planner = newHPA(hpaTarget), nil
		hpa, err := loadsim.Run(s)
		if err != nil {
			return err
		}
		fmt.Fprint(&scenarios, scenarioRow(ours, hpa))
		if err := chart(filepath.Join(docs, "img", "scaling-"+ours.Name+".svg"), ours, hpa); err != nil {
			return err
		}
		fmt.Println("played", ours.Name)
	}
	if err := playWaves(&waves, docs, days); err != nil {
		return err
	}
	return fill(filepath.Join(docs, "scaling.md"), map[string]string{"scenarios": scenarios.String(), "waves": waves.String()})
}

// playWaves compares the deciders on daily waves, with spikes that come at the same times every day and with others.
func playWaves(table *bytes.Buffer, docs string, days int) error {
	fmt.Fprintf(table, waveHead, days)
	for _, c := range []struct {
		astray time.Duration
		name   string
	}{{0, "at the same times"}, {40 * time.Minute, "up to 40 min astray"}} {
		results := make([]loadsim.Result, 0, 7)
		for _, s := range []loadsim.Scenario{
			loadsim.Wave("wave", days, c.astray, loadsim.WaveScaler(30*time.Second)),
			loadsim.Wave("scaler, sustained 10 s", days, c.astray, loadsim.WaveScaler(10*time.Second)),
			loadsim.Wave("HPA, target 0.65", days, c.astray, newHPA(0.65)),
			loadsim.Wave("HPA, target 0.7", days, c.astray, newHPA(0.7)),
			loadsim.Wave("HPA, target 0.75", days, c.astray, newHPA(0.75)),
			loadsim.Wave("HPA, target 0.8", days, c.astray, newHPA(0.8)),
			loadsim.Static(loadsim.Wave("static", days, c.astray, nil)),
		} {
			r, err := loadsim.Run(s)
			if err != nil {
				return err
			}
			results = append(results, r)
		}
		for _, r := range results {
			fmt.Fprint(table, waveRow(c.name, r, results[len(results)-1]))
		}
		fmt.Println("played waves with spikes", c.name)
		if c.astray == 0 {
			ours, hpa := lastDay(results[0]), lastDay(results[3])
			if err := chart(filepath.Join(docs, "img", "scaling-wave.svg"), ours, hpa); err != nil {
				return err
			}
		}
	}
	return nil
}

// lastDay cuts the last day out, for a chart.
func lastDay(r loadsim.Result) loadsim.Result {
	from := max(0, len(r.Points)-int(24*time.Hour/loadsim.Tick))
	first := r.Points[from]
	points := make([]loadsim.Point, 0, len(r.Points)-from)
	for _, p := range r.Points[from:] {
		p.At -= first.At
		p.Moved -= first.Moved
		points = append(points, p)
	}
	r.Points = points
	return r
}
