//! The main comparison as a picture: bars of CPU time per command, proxy and Redis stacked, a panel for each load.
//!
//! The SVG needs nothing from outside. It has a ground of its own, and colours for light and dark, so that it can be read
//! wherever it is shown.

use crate::report::Summary;
use crate::results::{Metric, Results};
use crate::scenario::Scenario;
use std::fmt::Write;

/// The panels, if they were measured.
const PANELS: [&str; 4] = ["get64x1", "get64x16", "set64x1", "get16kx1"];
/// The bars, from top to bottom, with the name people know.
const BARS: [(&str, &str); 8] = [
    ("direct", "Redis, plain text"),
    ("redis-tls", "Redis' own TLS"),
    ("stunnel", "stunnel"),
    ("nginx", "nginx stream"),
    ("haproxy", "HAProxy"),
    ("envoy", "Envoy redis_proxy"),
    ("ravelin-off", "Ravelin, audit off"),
    ("ravelin", "Ravelin"),
];

// Lengths in pixels of the picture's own grid.
const MARGIN: f64 = 24.0;
const PANEL: f64 = 416.0;
const NAMES: f64 = 128.0;
/// Right of the longest bar: the room for its figure.
const FIGURES: f64 = 78.0;
const HEAD: f64 = 84.0;
const PANEL_HEAD: f64 = 30.0;
const LINE: f64 = 23.0;
const BAR: f64 = 14.0;

const STYLE: &str = "\
    text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }\
    .ground { fill: #ffffff; stroke: #d1d9e0 } .title { font-size: 17px; font-weight: 600 }\
    .head { font-size: 13px; font-weight: 600 } .quiet { fill: #59636e } .own { font-weight: 600 }\
    .proxy { fill: #8c959f } .redis { fill: #d0d7de } .proxy.own { fill: #0969da } .redis.own { fill: #9ec9f7 }\
    .spread { stroke: #1f2328; stroke-width: 1.2 }\
    @media (prefers-color-scheme: dark) {\
    text { fill: #e6edf3 } .ground { fill: #0d1117; stroke: #3d444d } .quiet { fill: #9198a1 }\
    .proxy { fill: #768390 } .redis { fill: #3d444d } .proxy.own { fill: #4493f8 } .redis.own { fill: #1f4a80 }\
    .spread { stroke: #e6edf3 } }";

/// One bar's figures.
struct Bar {
    target: &'static str,
    name: &'static str,
    proxy: f64,
    sum: Summary,
    /// Over plain Redis of the same round.
    ratio: Option<f64>,
}

/// The picture; none, if nothing of it was measured.
pub fn draw(results: &Results, rounds: usize) -> Option<String> {
    let panels: Vec<(String, Vec<Bar>)> = PANELS
        .iter()
        .filter_map(|name| Some((Scenario::of(name)?.title(), bars(name, results))))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let lines = panels.iter().map(|(_, bars)| bars.len()).max()? as f64;
    let columns = panels.len().min(2) as f64;
    let rows = panels.len().div_ceil(2) as f64;
    let panel_height = PANEL_HEAD + lines * LINE + 18.0;
    let width = MARGIN * (columns + 1.0) + PANEL * columns;
    let height = HEAD + rows * panel_height + 30.0;
    let mut svg = String::new();
    let mut out = |text: String| svg.push_str(&(text + "\n"));
    out(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title about\">"
    ));
    out("<title id=\"title\">CPU time per command, proxy and Redis together</title>".to_owned());
    out(format!("<desc id=\"about\">{}</desc>", escape(&describe(&panels))));
    out(format!("<style>{STYLE}</style>"));
    out(format!(
        "<rect class=\"ground\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>",
        width - 1.0,
        height - 1.0
    ));
    out(text(MARGIN, 32.0, "title", "CPU time per command, proxy and Redis together"));
    let many = if rounds == 1 { String::new() } else { format!(", medians of {rounds} rounds with quartiles") };
    out(text(MARGIN, 52.0, "quiet", &format!("µs, less is better; mutual TLS 1.3, one worker each{many}")));
    for (at, (title, bars)) in panels.iter().enumerate() {
        let x = MARGIN + (at % 2) as f64 * (PANEL + MARGIN);
        let y = HEAD + (at / 2) as f64 * panel_height;
        out(panel(x, y, title, bars));
    }
    let y = height - 18.0;
    for (x, class, what) in [(MARGIN, "proxy", "proxy"), (MARGIN + 70.0, "redis", "Redis")] {
        out(format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\"/>",
            y - 10.0
        ));
        out(text(x + 18.0, y, "quiet", what));
    }
    let about = "× : over plain Redis. Ravelin audits every command to a file.";
    out(text(MARGIN + 150.0, y, "quiet", about));
    out("</svg>".to_owned());
    Some(svg)
}

fn bars(scenario: &str, results: &Results) -> Vec<Bar> {
    let bar = |(target, name): &(&'static str, &'static str)| {
        Some(Bar {
            target,
            name,
            proxy: results.summary(scenario, target, Metric::CpuProxy)?.median,
            sum: results.summary(scenario, target, Metric::Cpu)?,
            ratio: results.ratio(scenario, target, "direct", Metric::Cpu).map(|ratio| ratio.median),
        })
    };
    BARS.iter().filter_map(bar).collect()
}

fn panel(x: f64, y: f64, title: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|bar| bar.sum.upper.max(bar.sum.median)).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let scale = (PANEL - NAMES - FIGURES) / longest;
    let left = x + NAMES;
    let mut svg = text(x, y + 14.0, "head", title);
    for (at, bar) in bars.iter().enumerate() {
        let top = y + PANEL_HEAD + at as f64 * LINE;
        let middle = top + BAR / 2.0;
        let own = if bar.target.starts_with("ravelin") { " own" } else { "" };
        // What a proxy takes is rounded away if the parts do not add up: the sum's median is what counts.
        let proxy = bar.proxy.clamp(0.0, bar.sum.median) * scale;
        let redis = bar.sum.median * scale - proxy;
        svg.push('\n');
        svg.push_str(&text(x, top + 11.5, &format!("name{own}"), bar.name));
        for (class, from, width) in [("proxy", left, proxy), ("redis", left + proxy, redis)] {
            let _ = write!(
                svg,
                "\n<rect class=\"{class}{own}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR:.0}\"/>"
            );
        }
        let (from, to) = (left + bar.sum.lower * scale, left + bar.sum.upper * scale);
        let _ = write!(svg, "\n<path class=\"spread\" d=\"M{from:.1} {middle:.1}H{to:.1}\"/>");
        let end = to.max(left + bar.sum.median * scale) + 6.0;
        let digits = if bar.sum.median < 10.0 { 2 } else { 1 };
        let ratio = bar.ratio.map_or_else(String::new, |ratio| format!("  ×{ratio:.1}"));
        svg.push('\n');
        svg.push_str(&text(end, top + 11.5, &format!("figure{own}"), &format!("{:.digits$}{ratio}", bar.sum.median)));
    }
    svg
}

fn text(x: f64, y: f64, class: &str, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" xml:space=\"preserve\">{}</text>", escape(text))
}

/// What is in the picture, for those who do not see it.
fn describe(panels: &[(String, Vec<Bar>)]) -> String {
    let of_bar = |bar: &Bar| format!("{} {:.2} µs", bar.name, bar.sum.median);
    let of_panel = |(title, bars): &(String, Vec<Bar>)| {
        format!("{title}: {}.", bars.iter().map(of_bar).collect::<Vec<_>>().join(", "))
    };
    panels.iter().map(of_panel).collect::<Vec<_>>().join(" ")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
