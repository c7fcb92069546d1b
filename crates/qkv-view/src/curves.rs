//! Curves over a common axis: losses and accuracies while training. Here belong axes, ticks, lines and their legend.

use std::fmt::Write as _;

use crate::svg::{colour, coordinate, escape, pixels, standalone};

/// One curve.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points `(x, y)`, in the order in which they are joined. A point that is not finite leaves a gap.
    pub points: Vec<(f64, f64)>,
}

/// Some curves in one drawing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curves {
    /// Heading.
    pub title: String,
    /// What the horizontal axis counts.
    pub x_label: String,
    /// What the vertical axis measures.
    pub y_label: String,
    /// The curves, in the order of the legend.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
/// Edges of the plot: left, top, right, bottom.
const PLOT: (f64, f64, f64, f64) = (70.0, 78.0, 696.0, 346.0);
/// With more points than this the markers run into each other and only the line is drawn.
const MARKED: usize = 40;

impl Curves {
    /// The curves as an SVG file of its own, which follows the reader's light or dark scheme.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let finite = || self.series.iter().flat_map(|series| &series.points).copied().filter(is_finite);
        let x_axis = Axis::over(finite().map(|point| point.0));
        let y_axis = Axis::over(finite().map(|point| point.1));
        let mut body = format!(
            "<text x=\"20\" y=\"30\" font-size=\"15\" font-weight=\"600\" fill=\"var(--ink)\">{}</text>\n",
            escape(&self.title)
        );
        self.axes(&mut body, &x_axis, &y_axis);
        self.legend(&mut body);
        let place = |(x, y): (f64, f64)| {
            let (left, top, right, bottom) = PLOT;
            (left + x_axis.share(x) * (right - left), bottom - y_axis.share(y) * (bottom - top))
        };
        for (index, series) in self.series.iter().enumerate() {
            line(&mut body, series, &colour(index), place);
        }
        if finite().next().is_none() {
            let (x, y) = ((PLOT.0 + PLOT.2) / 2.0, (PLOT.1 + PLOT.3) / 2.0);
            body.push_str(&text((x, y), "middle", "no data"));
        }
        standalone(&self.title, (WIDTH, HEIGHT), &body)
    }

    fn axes(&self, out: &mut String, x_axis: &Axis, y_axis: &Axis) {
        let (left, top, right, bottom) = PLOT;
        for tick in y_axis.ticks() {
            let y = bottom - y_axis.share(tick) * (bottom - top);
            rule(out, (left, y), (right, y), "var(--line)");
            out.push_str(&text((left - 8.0, y + 4.0), "end", &y_axis.label(tick)));
        }
        for tick in x_axis.ticks() {
            let x = left + x_axis.share(tick) * (right - left);
            rule(out, (x, bottom), (x, bottom + 4.0), "var(--faint)");
            out.push_str(&text((x, bottom + 18.0), "middle", &x_axis.label(tick)));
        }
        rule(out, (left, bottom), (right, bottom), "var(--faint)");
        out.push_str(&text(((left + right) / 2.0, HEIGHT - 16.0), "middle", &self.x_label));
        let _ = writeln!(
            out,
            "<text transform=\"translate(20,{}) rotate(-90)\" text-anchor=\"middle\" font-size=\"12\" \
             fill=\"var(--faint)\">{}</text>",
            coordinate((top + bottom) / 2.0),
            escape(&self.y_label)
        );
    }

    fn legend(&self, out: &mut String) {
        let (mut x, y) = (PLOT.0, 54.0);
        for (index, series) in self.series.iter().enumerate() {
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"16\" height=\"3\" rx=\"1.5\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"{}\" font-size=\"12\" fill=\"var(--ink)\">{}</text>",
                coordinate(x),
                coordinate(y - 5.5),
                colour(index),
                coordinate(x + 22.0),
                coordinate(y),
                escape(&series.name)
            );
            x += 22.0 + pixels(&series.name, 12.0) + 20.0;
        }
    }
}

fn is_finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

fn rule(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(coordinate);
    let _ = writeln!(out, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{colour}\"/>");
}

fn text((x, y): (f64, f64), anchor: &str, content: &str) -> String {
    format!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\" font-size=\"12\" fill=\"var(--faint)\">{}</text>\n",
        coordinate(x),
        coordinate(y),
        escape(content)
    )
}

/// One curve: a line for each run of finite points, and, where there is room, a marker with its values at each.
fn line(out: &mut String, series: &Series, colour: &str, place: impl Fn((f64, f64)) -> (f64, f64)) {
    for run in series.points.split(|point| !is_finite(point)).filter(|run| !run.is_empty()) {
        let points: Vec<String> = run
            .iter()
            .map(|&point| place(point))
            .map(|(x, y)| format!("{},{}", coordinate(x), coordinate(y)))
            .collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\" \
             stroke-linecap=\"round\"/>",
            points.join(" ")
        );
    }
    if series.points.len() > MARKED {
        return;
    }
    for &point in series.points.iter().filter(|point| is_finite(point)) {
        let (x, y) = place(point);
        let _ = writeln!(
            out,
            "<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{colour}\"><title>{}: {} at {}</title></circle>",
            coordinate(x),
            coordinate(y),
            escape(&series.name),
            point.1,
            point.0
        );
    }
}

/// An axis from one round number to another.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// The axis that holds all values; from 0 to 1 when there are none, or when they lie too far apart to be drawn.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let unit = Self { low: 0.0, high: 1.0, step: 0.2 };
        if low > high {
            return unit;
        }
        // A single value still needs an axis around it.
        let (low, high) = if low == high { (low - 0.5, high + 0.5) } else { (low, high) };
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|of| of * power).into_iter().find(|&step| step >= rough);
        match step.map(|step| Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }) {
            Some(axis) if (axis.high - axis.low).is_finite() && axis.high - axis.low >= axis.step => axis,
            _ => unit,
        }
    }

    /// Where a value lies on the axis, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|index| self.low + index as f64 * self.step)
    }

    /// A tick with as many decimals as the step needs.
    fn label(&self, tick: f64) -> String {
        if self.step >= 1e6 || self.step < 1e-6 {
            return format!("{tick:.2e}");
        }
        let decimals = (0..8).find(|&n| {
            let scaled = self.step * 10_f64.powi(n);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1.0)
        });
        let text = format!("{tick:.*}", decimals.unwrap_or(6) as usize);
        if text.trim_start_matches('-').bytes().all(|b| matches!(b, b'0' | b'.')) { "0".to_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::well_formed::assert_well_formed;

    fn curves(points: &[(f64, f64)]) -> Curves {
        Curves {
            title: "Loss & accuracy".into(),
            x_label: "epoch".into(),
            y_label: "<loss>".into(),
            series: vec![Series { name: "train".into(), points: points.to_vec() }],
        }
    }

    fn labels(low: f64, high: f64) -> Vec<String> {
        let axis = Axis::over([low, high].into_iter());
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_all_values() {
        assert_eq!(labels(0.93, 0.999), ["0.92", "0.94", "0.96", "0.98", "1.00"]);
        assert_eq!(labels(1.0, 30.0), ["0", "10", "20", "30"]);
        assert_eq!(labels(-0.2, 0.2), ["-0.2", "-0.1", "0", "0.1", "0.2"]);
        assert_eq!(labels(3.0, 3.0), ["2.4", "2.6", "2.8", "3.0", "3.2", "3.4", "3.6"]);
    }

    #[test]
    fn a_curve_is_well_formed_and_the_same_twice() {
        let svg = curves(&[(1.0, 2.5), (2.0, 1.5), (3.0, 0.25)]).to_svg();
        assert_well_formed(&svg);
        assert_eq!(svg, curves(&[(1.0, 2.5), (2.0, 1.5), (3.0, 0.25)]).to_svg());
        assert!(svg.contains("train: 0.25 at 3") && svg.contains("&lt;loss&gt;"));
    }

    #[test]
    fn a_point_that_is_not_finite_leaves_a_gap() {
        let svg = curves(&[(1.0, 1.0), (2.0, 2.0), (3.0, f64::NAN), (4.0, 1.0), (5.0, f64::INFINITY)]).to_svg();
        assert_well_formed(&svg);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 3));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_one_point_and_the_ends_of_the_range_can_be_drawn() {
        let cases: [&[(f64, f64)]; 5] = [
            &[],
            &[(1.0, 1.0)],
            &[(0.0, -1e308), (1.0, 1e308)],
            &[(0.0, 0.0), (1.0, 5e-324)],
            &[(0.0, 1e300), (1.0, 1e300)],
        ];
        for points in cases {
            let svg = curves(points).to_svg();
            assert_well_formed(&svg);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert_eq!(svg.contains("no data"), points.is_empty());
        }
    }

    #[test]
    fn many_points_are_a_line_without_markers() {
        let points: Vec<(f64, f64)> = (0..500).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        let svg = curves(&points).to_svg();
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (1, 0));
    }
}
