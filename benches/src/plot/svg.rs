//! One plot as SVG text.
//!
//! ```text
//! title
//! 2,000 ┤        ╭──   the upper end of the axis is 1, 2 or 5 times a power of ten
//!       ┤   ╭────╯     a value that is not known leaves a gap
//!     0 ┼───┴────┴──
//!       1   64  256    legend below
//! ```

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 620.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 320.0;
const STEPS: u8 = 5;
const COLOURS: [&str; 2] = ["#1565c0", "#c62828"];

/// A plot over marks that are set apart evenly.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    /// What the horizontal axis counts.
    pub(super) axis: &'static str,
    /// The names of the places on the horizontal axis.
    pub(super) marks: Vec<String>,
    pub(super) series: Vec<Series>,
}

/// One line: a value a mark, from 0.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) dashed: bool,
    pub(super) values: Vec<Option<f64>>,
}

impl Plot {
    /// The text of the file.
    pub(super) fn svg(&self) -> String {
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut out, (WIDTH / 2.0, 28.0), "middle", &self.title);
        let all = self.series.iter().flat_map(|series| series.values.iter().flatten());
        let top = nice(all.copied().fold(0.0, f64::max));
        for step in 0..=STEPS {
            let part = f64::from(step) / f64::from(STEPS);
            let y = BOTTOM - part * (BOTTOM - TOP);
            put(&mut out, &format!("<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>"));
            text(&mut out, (LEFT - 8.0, y + 4.0), "end", &number(part * top));
        }
        for (place, mark) in self.marks.iter().enumerate() {
            text(&mut out, (self.x(place), BOTTOM + 20.0), "middle", mark);
        }
        text(&mut out, (f64::midpoint(LEFT, RIGHT), BOTTOM + 40.0), "middle", self.axis);
        for (number, series) in self.series.iter().enumerate() {
            self.draw(&mut out, number, series, top);
        }
        out.push_str("</svg>\n");
        out
    }

    fn draw(&self, out: &mut String, number: usize, series: &Series, top: f64) {
        let colour = COLOURS.get(number % COLOURS.len()).copied().unwrap_or("black");
        let dash = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let known = series.values.iter().enumerate().filter_map(|(place, value)| Some((self.x(place), (*value)?)));
        let points = known.map(|(x, value)| (x, BOTTOM - value / top * (BOTTOM - TOP))).collect::<Vec<_>>();
        let path = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
        put(out, &format!("<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>"));
        for (x, y) in points {
            put(out, &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"));
        }
        let x = LEFT + 140.0 * f64::from(u32::try_from(number).unwrap_or_default());
        let y = BOTTOM + 60.0;
        let end = x + 20.0;
        put(
            out,
            &format!(
                "<line x1=\"{x}\" x2=\"{end}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>"
            ),
        );
        text(out, (x + 26.0, y + 4.0), "start", &series.name);
    }

    fn x(&self, place: usize) -> f64 {
        let of = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        LEFT + (RIGHT - LEFT) * (of(place) + 0.5) / of(self.marks.len().max(1))
    }
}

fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    put(out, &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
}

/// The next of 1, 2, 5, 10, 20, … from `value` on.
fn nice(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|end| *end >= value).unwrap_or(10.0 * power)
}

/// A number of the axis, thousands set apart.
fn number(value: f64) -> String {
    if value != 0.0 && value < 10.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number_and_a_gap_stays_one() {
        let ends = [0.0, 1.5, 2.0, 2.1, 60_000.0].map(|value| number(nice(value)));
        assert_eq!(ends, ["1.0", "2.0", "2.0", "5.0", "100,000"]);
        assert_eq!([0.0, 0.2, 100.0, 12_345.0, 1_000_000.0].map(number), ["0", "0.2", "100", "12,345", "1,000,000"]);
        let values = vec![Some(10.0), None, Some(20.0)];
        let series = vec![Series { name: "a<b".to_owned(), dashed: true, values }];
        let plot = Plot {
            title: "t & u".to_owned(),
            axis: "clients",
            marks: ["1", "16", "64"].map(str::to_owned).to_vec(),
            series,
        };
        let svg = plot.svg();
        assert!(svg.contains("points=\"170.0,185.0 530.0,50.0\""), "{svg}");
        assert!(svg.contains(">a&lt;b<") && svg.contains(">t &amp; u<") && svg.contains("stroke-dasharray"), "{svg}");
    }
}
