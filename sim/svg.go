package sim

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// Colours of the thesis' regions, and of lines.
const (
	red    = "#f4b6b0"
	yellow = "#fbe9a6"
	green  = "#c4e6c0"
)

var inks = []string{"#1f4e9c", "#c04010", "#2a7a2a", "#7a2a9c", "#8a6d00", "#007a8a", "#444444", "#b0006a"}

// point is a point of a curve, in the chart's units.
type point struct{ x, y float64 }

// curve is a line of a chart.
type curve struct {
	name   string
	points []point
	steps  bool // holds each value until the next point
	bars   bool
}

// band is a coloured region between two heights, from one moment to another.
type band struct {
	x0, x1, y0, y1 float64
	colour         string
}

// chart is a figure with two axes.
type chart struct {
	title, x, y string
	curves      []curve
	bands       []band
	right       *curve // on an axis of its own
	rightLabel  string
}

const (
	width, height = 860.0, 420.0
	leftEdge      = 70.0
	rightEdge     = 70.0
	topEdge       = 40.0
	bottomEdge    = 70.0
)

// axis maps a range of values to pixels.
type axis struct{ low, high, from, to float64 }

func (a axis) at(v float64) float64 {
	v = min(max(v, a.low), a.high)
	return a.from + (v-a.low)/(a.high-a.low)*(a.to-a.from)
}

// ticks are round values within the axis, about six.
func (a axis) ticks() []float64 {
	step := math.Pow(10, math.Floor(math.Log10((a.high-a.low)/5)))
	for _, f := range []float64{1, 2, 5, 10} {
		if (a.high-a.low)/(f*step) <= 7 {
			step *= f
			break
		}
	}
	var out []float64
	for v := math.Ceil(a.low/step) * step; v <= a.high+1e-9*step; v += step {
		out = append(out, v)
	}
	return out
}

// span is the range of values, a little wider.
func span(curves []curve, of func(point) float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, p := range c.points {
			low, high = min(low, of(p)), max(high, of(p))
		}
	}
	if math.IsInf(low, 0) {
		return 0, 1
	}
	if high-low < 1e-9 {
		high = low + 1
	}
	return low, high
}

// svg draws the chart.
func (c chart) svg() []byte {
	x0, x1 := span(c.curves, func(p point) float64 { return p.x })
	y0, y1 := span(c.curves, func(p point) float64 { return p.y })
	for _, b := range c.bands {
		x0, x1 = min(x0, b.x0), max(x1, b.x1)
	}
	pad := 0.06 * (y1 - y0)
	if y0 >= 0 {
		y0 = 0
	} else {
		y0 -= pad
	}
	ax := axis{x0, x1, leftEdge, width - rightEdge}
	ay := axis{y0, y1 + pad, height - bottomEdge, topEdge}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="white"/>`+"\n", width, height)
	text(&b, width/2, 20, "middle", c.title)
	for _, r := range c.bands {
		left, right, bottom, top := ax.at(r.x0), ax.at(r.x1), ay.at(r.y0), ay.at(r.y1)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", left, top, right-left, bottom-top, r.colour)
	}
	c.frame(&b, ax, ay)
	for i, k := range c.curves {
		draw(&b, k, ax, ay, inks[i%len(inks)], len(c.curves) > 1 || k.bars)
		legend(&b, i, k.name, inks[i%len(inks)])
	}
	if c.right != nil {
		low, high := span([]curve{*c.right}, func(p point) float64 { return p.y })
		ar := axis{min(low, 0), high * 1.06, height - bottomEdge, topEdge}
		for _, v := range ar.ticks() {
			text(&b, width-rightEdge+6, ar.at(v)+4, "start", fmt.Sprintf("%g", round(v)))
		}
		fmt.Fprintf(&b, `<text transform="translate(%g %g) rotate(90)" text-anchor="middle">%s</text>`+"\n", width-16, height/2, html.EscapeString(c.rightLabel))
		i := len(c.curves)
		draw(&b, *c.right, ax, ar, inks[i%len(inks)], false)
		legend(&b, i, c.right.name, inks[i%len(inks)])
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// frame draws the axes.
func (c chart) frame(b *bytes.Buffer, ax, ay axis) {
	fmt.Fprintf(b, `<path d="M%g %gV%gH%g" fill="none" stroke="black"/>`+"\n", leftEdge, topEdge, height-bottomEdge, width-rightEdge)
	for _, v := range ax.ticks() {
		x := ax.at(v)
		fmt.Fprintf(b, `<path d="M%.1f %gv5" stroke="black"/>`+"\n", x, height-bottomEdge)
		text(b, x, height-bottomEdge+18, "middle", fmt.Sprintf("%g", round(v)))
	}
	for _, v := range ay.ticks() {
		y := ay.at(v)
		fmt.Fprintf(b, `<path d="M%g %.1fh-5" stroke="black"/>`+"\n", leftEdge, y)
		text(b, leftEdge-8, y+4, "end", fmt.Sprintf("%g", round(v)))
	}
	if ay.low < 0 && ay.high > 0 {
		fmt.Fprintf(b, `<path d="M%g %.1fH%g" stroke="white" stroke-width="1.5"/>`+"\n", leftEdge, ay.at(0), width-rightEdge)
	}
	text(b, (leftEdge+width-rightEdge)/2, height-bottomEdge+36, "middle", c.x)
	fmt.Fprintf(b, `<text transform="translate(16 %g) rotate(-90)" text-anchor="middle">%s</text>`+"\n", height/2, html.EscapeString(c.y))
}

func draw(b *bytes.Buffer, c curve, ax, ay axis, ink string, marks bool) {
	if len(c.points) == 0 {
		return
	}
	if c.bars {
		for _, p := range c.points {
			y := ay.at(p.y)
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="12" height="%.1f" fill="%s" fill-opacity="0.6"/>`+"\n", ax.at(p.x)-6, y, ay.from-y, ink)
		}
		return
	}
	fmt.Fprintf(b, `<path fill="none" stroke="%s" stroke-width="1.5" d="M%.1f %.1f`, ink, ax.at(c.points[0].x), ay.at(c.points[0].y))
	for _, p := range c.points[1:] {
		if c.steps {
			fmt.Fprintf(b, "H%.1fV%.1f", ax.at(p.x), ay.at(p.y))
		} else {
			fmt.Fprintf(b, "L%.1f %.1f", ax.at(p.x), ay.at(p.y))
		}
	}
	b.WriteString("\"/>\n")
	if marks && len(c.points) < 40 {
		for _, p := range c.points {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", ax.at(p.x), ay.at(p.y), ink)
		}
	}
}

func legend(b *bytes.Buffer, i int, name, ink string) {
	x := leftEdge + float64(i%6)*(width-leftEdge-rightEdge)/6
	y := height - 18.0 + 13*float64(i/6)
	fmt.Fprintf(b, `<path d="M%.1f %.1fh14" stroke="%s" stroke-width="3"/>`+"\n", x, y-4, ink)
	text(b, x+18, y, "start", name)
}

func text(b *bytes.Buffer, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

// round takes the rounding of sums from a tick.
func round(v float64) float64 { return math.Round(v*1e6) / 1e6 }
