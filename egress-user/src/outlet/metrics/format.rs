//! The two text formats that Prometheus reads.
//!
//! In: `OpenMetrics`, as prometheus-client writes it. Out: that, or the older Prometheus text format, which differs for our
//! metrics in two points: a counter's family is named with its `_total`, and there is no `# EOF`.

/// A format of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Format {
    /// `OpenMetrics` for a client that names it in its `Accept` header and has not refused it with `q=0`, as
    /// Prometheus does; else the Prometheus text format.
    #[must_use]
    pub fn accepted_by(accept: &str) -> Self {
        let open = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let refused = parts
                .filter_map(|part| part.strip_prefix("q="))
                .any(|quality| quality.parse() == Ok(0.0_f32));
            media.eq_ignore_ascii_case("application/openmetrics-text") && !refused
        });
        if open {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// An `OpenMetrics` text in this format.
    pub(super) fn of(self, open_metrics: String) -> String {
        match self {
            Self::OpenMetrics => open_metrics,
            Self::Prometheus => prometheus(&open_metrics),
        }
    }
}

/// Line by line: labels cannot hold a newline that is not escaped.
fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let described = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '));
        match (described, lines.peek()) {
            (Some((name, help)), Some(next)) if *next == format!("# TYPE {name} counter") => {
                text.extend(["# HELP ", name, "_total ", help, "\n"]);
                text.extend(["# TYPE ", name, "_total counter\n"]);
                lines.next();
            }
            _ if line == "# EOF" => {}
            _ => text.extend([line, "\n"]),
        }
    }
    text
}
