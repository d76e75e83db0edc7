package ring

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// Sizes of the picture, in pixels of its own coordinates.
const (
	svgSize   = 480 // width and height of the ring's part
	svgCenter = svgSize / 2
	svgOuter  = 220.0
	svgInner  = 150.0
	svgTable  = 420 // width of the table's part
	svgRow    = 22
	svgTop    = 64
	svgRows   = 40 // members in the table; the rest is summed up
)

// WriteSVG writes a picture of the ring: an arc for each range in the colour of its owner, clockwise from the top, and a
// table of the members with their shares against the ideal and the number of their ranges. Free parts are left blank. The picture
// stands for itself: no scripts, no links, no fonts. Texts are escaped. The error is that of w.
func (r *Ring) WriteSVG(w io.Writer) error {
	out := &svg{Writer: bufio.NewWriter(w)}
	rows := min(r.Len(), svgRows+1)
	height := max(svgSize, svgTop+svgRow*(rows+1))
	out.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13" role="img">`+"\n",
		svgSize+svgTable, height)
	out.printf("<title>%d shards, %d slots, %d ranges</title>\n", r.Len(), r.Slots(), r.rangeCount())
	out.printf(`<rect width="100%%" height="100%%" fill="#fff"/>` + "\n")
	out.arcs(r)
	out.printf(`<text x="%d" y="%d" text-anchor="middle" font-size="30">%d</text>`+"\n", svgCenter, svgCenter, r.Len())
	out.printf(`<text x="%d" y="%d" text-anchor="middle" fill="#555">shards, %d slots</text>`+"\n", svgCenter, svgCenter+22, r.Slots())
	out.table(r)
	out.printf("</svg>\n")
	if out.err != nil {
		return out.err
	}
	return out.Flush()
}

// rangeCount returns the number of ranges of all members.
func (r *Ring) rangeCount() int {
	n := 0
	if r != nil {
		for _, run := range r.runs {
			if run.owner != r.free() {
				n++
			}
		}
	}
	return n
}

// svg writes until the first error.
type svg struct {
	*bufio.Writer
	err error
}

func (s *svg) printf(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.Writer, format, args...)
	}
}

func (s *svg) arcs(r *Ring) {
	s.printf(`<circle cx="%d" cy="%d" r="%g" fill="none" stroke="#ddd"/>`+"\n", svgCenter, svgCenter, svgOuter)
	if r == nil {
		return
	}
	for i, run := range r.runs {
		if run.owner == r.free() {
			continue
		}
		from, to := float64(run.start)/float64(len(r.table)), float64(r.end(i))/float64(len(r.table))
		s.printf(`<path d="%s" fill="%s"><title>%s: %v</title></path>`+"\n", arc(from, to), color(int(run.owner)),
			escape(r.names[run.owner]), r.rangeOf(int(run.start), r.end(i)))
	}
}

// arc returns the path of a part of the ring; from and to are parts of the whole.
func arc(from, to float64) string {
	if to-from > 0.999 { // an arc from a point to itself is nothing: draw two halves
		return arc(from, (from+to)/2) + arc((from+to)/2, to-1e-6)
	}
	large := 0
	if to-from > 0.5 {
		large = 1
	}
	x1, y1 := point(from, svgOuter)
	x2, y2 := point(to, svgOuter)
	x3, y3 := point(to, svgInner)
	x4, y4 := point(from, svgInner)
	return fmt.Sprintf("M%.2f %.2fA%g %g 0 %d 1 %.2f %.2fL%.2f %.2fA%g %g 0 %d 0 %.2f %.2fZ",
		x1, y1, svgOuter, svgOuter, large, x2, y2, x3, y3, svgInner, svgInner, large, x4, y4)
}

func point(part, radius float64) (x, y float64) {
	sin, cos := math.Sincos(2 * math.Pi * part)
	return svgCenter + radius*sin, svgCenter - radius*cos
}

// color returns a color for a member that differs from those of the members before it: hues a golden angle apart.
func color(member int) string {
	return fmt.Sprintf("hsl(%.0f,%d%%,%d%%)", math.Mod(float64(member)*137.508, 360), 60+member%3*10, 45+member%4*7)
}

func (s *svg) table(r *Ring) {
	const id, share, bar, ranges = svgSize + 30, svgSize + 235, svgSize + 245, svgSize + 400
	s.printf(`<g text-anchor="end"><text x="%d" y="%d">share / ideal</text><text x="%d" y="%d">ranges</text></g>`+"\n",
		share, svgTop-24, ranges, svgTop-24)
	members := r.Members()
	sum := 0.0
	for _, m := range members {
		sum += m.Weight
	}
	counts, shares := r.perMember()
	for i, m := range members {
		y := svgTop + svgRow*i
		if i == svgRows {
			s.printf(`<text x="%d" y="%d">and %d more</text>`+"\n", id, y, len(members)-i)
			return
		}
		ideal := m.Weight / sum
		s.printf(`<rect x="%d" y="%d" width="12" height="12" fill="%s"/>`, id-20, y-11, color(i))
		s.printf(`<text x="%d" y="%d">%s</text>`, id, y, escape(shorten(m.ID)))
		s.printf(`<text x="%d" y="%d" text-anchor="end">%.2f %% / %.2f %%</text>`, share, y, 100*shares[i], 100*ideal)
		// The bar ends at twice the ideal share; the line is the ideal.
		s.printf(`<rect x="%d" y="%d" width="%.1f" height="10" fill="%s"/>`, bar, y-10, min(2, shares[i]/ideal)*50, color(i))
		s.printf(`<path d="M%d %dv14" stroke="#000"/>`, bar+50, y-12)
		s.printf(`<text x="%d" y="%d" text-anchor="end">%d</text>`+"\n", ranges, y, counts[i])
	}
}

// perMember returns the number of ranges and the share of each member.
func (r *Ring) perMember() (ranges []int, shares []float64) {
	ranges, shares = make([]int, r.Len()+1), make([]float64, r.Len()+1)
	if r != nil {
		for i, run := range r.runs {
			ranges[run.owner]++
			shares[run.owner] += float64(r.end(i)-int(run.start)) / float64(len(r.table))
		}
	}
	return ranges, shares
}

// shorten keeps the start and the end of a long ID: names of Pods differ at the end.
func shorten(id string) string {
	const most = 22
	runes := []rune(id)
	if len(runes) <= most {
		return id
	}
	return string(runes[:most/2-1]) + "…" + string(runes[len(runes)-most/2:])
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder does not fail
	return b.String()
}
