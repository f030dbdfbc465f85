//! The report for people: a table, what to do about each failure, one last line.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::report::{CaseResult, Report, Status};

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Advice => "advice",
            Self::Skipped => "skipped",
        }
    }

    fn style(self) -> Style {
        let colour = match self {
            Self::Pass => AnsiColor::Green,
            Self::Fail => AnsiColor::Red,
            Self::Advice => AnsiColor::Yellow,
            Self::Skipped => AnsiColor::Cyan,
        };
        colour.on_default()
    }
}

impl CaseResult {
    /// The result as lines of the table.
    #[must_use]
    pub fn lines(&self, colours: bool) -> String {
        let style = if colours { self.status.style() } else { Style::new() };
        let word = self.status.word();
        let mut text = format!("{style}{word:<8}{style:#}{:<28} {}\n", self.name, first_line(self));
        if self.status == Status::Pass {
            return text;
        }
        let mut more = |label: &str, value: &str| {
            for (n, line) in value.lines().enumerate() {
                // Writing to a String cannot fail.
                let _infallible = writeln!(text, "        {:<10} {line}", if n == 0 { label } else { "" });
            }
        };
        more("why", &self.reason);
        if self.seen.lines().count() > 1 {
            more("seen", &self.seen);
        }
        if let Some(scene) = &self.scene {
            let frame = self.frame.map(|n| format!(", frame {n}")).unwrap_or_default();
            more("where", &format!("scene {scene}{frame}"));
        }
        if let Some(command) = &self.reproduce {
            more("again", command);
        }
        text
    }
}

fn first_line(case: &CaseResult) -> &str {
    match case.seen.lines().next() {
        Some(line) => line,
        None => &case.reason,
    }
}

impl Report {
    /// What was tested: the table's head.
    #[must_use]
    pub fn head(&self) -> String {
        format!(
            "{}: {} of WIT {}, {}\nhost {} (accepts WIT {}), settings {}\n\n",
            self.guest, self.world, self.wit_version, self.digest, self.host_version, self.host_wit, self.config
        )
    }

    /// The last line.
    #[must_use]
    pub fn verdict(&self, colours: bool) -> String {
        let s = self.summary;
        let (status, word) =
            if self.passed { (Status::Pass, "fit for a camera") } else { (Status::Fail, "NOT fit for a camera") };
        let style = if colours { status.style() } else { Style::new() };
        format!(
            "{style}{word}{style:#}: {} passed, {} failed, {} with advice, {} skipped\n",
            s.passed, s.failed, s.advice, s.skipped
        )
    }
}
