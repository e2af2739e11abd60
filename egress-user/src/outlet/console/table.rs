//! The table: columns that fit the terminal, whatever is in them.

use std::fmt::Write as _;

use crate::outlet::summary::Bytes;

/// One line, every text already escaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Bytes a second, lately.
    pub rate: u64,
    /// Bytes since the flow was first told.
    pub total: u64,
    /// `name[pid]`.
    pub process: String,
    /// Name or number.
    pub user: String,
    /// Script or executable, and scheduler.
    pub job: String,
    /// Where to.
    pub destination: String,
    /// How far.
    pub scope: String,
}

const HEADINGS: [&str; 7] = [
    "RATE",
    "TOTAL",
    "PROCESS",
    "USER",
    "SCOPE",
    "DESTINATION",
    "JOB",
];
/// Widths of the first five; the last two share what is left.
const FIXED: [usize; 5] = [12, 10, 20, 10, 9];
/// The least that the last two get; below, columns are left out from the right.
const LEAST: usize = 16;

/// Draws at most `height` lines of at most `width` columns, each ended by a newline.
pub(super) fn draw(
    rows: &[&Row],
    width: usize,
    height: usize,
    left_out: u64,
    color: bool,
) -> String {
    // The last column stays free: some terminals wrap when it is written.
    let width = width.saturating_sub(1);
    let left = width.saturating_sub(FIXED.iter().map(|fixed| fixed + 1).sum());
    let destination = (left * 3 / 5).max(LEAST);
    let job = left.saturating_sub(destination + 1).max(LEAST);
    let [rate, total, process, user, scope] = FIXED;
    let widths = [rate, total, process, user, scope, destination, job];
    let mut table = String::new();
    let mut line = |cells: [&str; 7], before: &str, after: &str| {
        let mut left = width;
        table.push_str(before);
        for (cell, column) in cells.iter().zip(widths) {
            let column = column.min(left);
            fit(&mut table, cell, column);
            left = left.saturating_sub(column + 1);
            if left == 0 {
                break;
            }
            table.push(' ');
        }
        table.truncate(table.trim_end().len());
        table.push_str(after);
        table.push('\n');
    };
    let (bold, plain) = if color {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    line(HEADINGS, bold, plain);
    let shown = rows.len().min(height.saturating_sub(2));
    for row in rows.iter().take(shown) {
        let (rate, total) = (
            format!("{}/s", Bytes(row.rate)),
            Bytes(row.total).to_string(),
        );
        line(
            [
                &rate,
                &total,
                &row.process,
                &row.user,
                &row.scope,
                &row.destination,
                &row.job,
            ],
            "",
            "",
        );
    }
    let more = (rows.len() - shown) as u64;
    let mut last = format!("{} flows", rows.len());
    if more > 0 {
        let _ = write!(last, ", {more} not shown");
    }
    if left_out > 0 {
        let _ = write!(
            last,
            "; {left_out} records of others had no room here (events and metrics have them)"
        );
    }
    fit(&mut table, &last, width);
    table.truncate(table.trim_end().len());
    table.push('\n');
    table
}

/// Columns of a character, at most: what is not ASCII is taken for wide, so that a line never wraps.
fn columns(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// Appends a text in exactly `width` columns: cut, with `~` at the end, or filled with blanks.
fn fit(line: &mut String, text: &str, width: usize) {
    let needed: usize = text.chars().map(columns).sum();
    let room = if needed > width {
        width.saturating_sub(1)
    } else {
        width
    };
    let mut used = 0;
    for c in text.chars() {
        if used + columns(c) > room {
            break;
        }
        used += columns(c);
        line.push(c);
    }
    if needed > width && width > 0 {
        line.push('~');
        used += 1;
    }
    line.extend(std::iter::repeat_n(' ', width.saturating_sub(used)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Row, columns, draw};

    #[test]
    fn shows_what_fits() {
        let row = Row {
            rate: 2048,
            total: 1 << 20,
            process: "curl[7]".into(),
            user: "root".into(),
            job: "/opt/sync.sh (cron)".into(),
            destination: "203.0.113.9:443/tcp".into(),
            scope: "public".into(),
        };
        let table = draw(&[&row], 140, 10, 0, false);
        let want =
            "2.0 KiB/s    1.0 MiB    curl[7]              root       public    203.0.113.9:443/tcp";
        assert!(table.lines().nth(1).unwrap().starts_with(want), "{table}");
        assert!(
            table.contains("/opt/sync.sh (cron)") && table.ends_with("1 flows\n"),
            "{table}"
        );
        assert!(
            draw(&[&row], 40, 10, 3, false).contains("curl[7]"),
            "a narrow one keeps what matters most"
        );
    }

    proptest! {
        #[test]
        fn never_wider_or_higher(
            texts in prop::collection::vec(".{0,60}", 5), count in 0_usize..40, width in 0_usize..200, height in 3_usize..30,
        ) {
            let row = Row {
                rate: 1, total: 1, process: texts[0].clone(), user: texts[1].clone(), job: texts[2].clone(),
                destination: texts[3].clone(), scope: texts[4].clone(),
            };
            let clean = |s: &str| crate::model::Text::from(s).to_string();
            let row = Row { process: clean(&row.process), user: clean(&row.user), job: clean(&row.job),
                destination: clean(&row.destination), scope: clean(&row.scope), ..row };
            let table = draw(&vec![&row; count], width, height, 1, false);
            prop_assert!(table.matches('\n').count() <= height);
            for line in table.lines() {
                prop_assert!(line.chars().map(columns).sum::<usize>() <= width.saturating_sub(1), "{:?}", line);
            }
        }
    }
}
