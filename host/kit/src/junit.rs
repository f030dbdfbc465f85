//! The report as JUnit XML, as CI servers read it.
//!
//! Owns the mapping: a failed case is a `failure`, a skipped one `skipped`, advice a passed case with its text in
//! `system-out`.

use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use crate::report::{CaseResult, Report, Status};

impl Report {
    /// JUnit XML of one test suite.
    ///
    /// # Errors
    /// Never in practice: it is written into memory.
    pub fn to_junit(&self) -> io::Result<Vec<u8>> {
        let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
        xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let seconds = |ms: u64| format!("{:.3}", ms as f64 / 1000.0);
        let suite = format!("facestream guest test {}", self.guest);
        let (tests, failures) = (self.cases.len().to_string(), self.summary.failed.to_string());
        let skipped = self.summary.skipped.to_string();
        let time = seconds(self.cases.iter().map(|c| c.duration_ms).sum());
        let counts = [
            ("name", suite.as_str()),
            ("tests", tests.as_str()),
            ("failures", failures.as_str()),
            ("errors", "0"),
            ("skipped", skipped.as_str()),
            ("time", time.as_str()),
        ];
        xml.create_element("testsuites").with_attributes(counts).write_inner_content(|xml| {
            xml.create_element("testsuite").with_attributes(counts).write_inner_content(|xml| {
                xml.create_element("properties").write_inner_content(|xml| {
                    let digest = self.digest.to_string();
                    for (name, value) in [
                        ("digest", digest.as_str()),
                        ("wit-version", &self.wit_version),
                        ("host-version", &self.host_version),
                    ] {
                        xml.create_element("property")
                            .with_attributes([("name", name), ("value", value)])
                            .write_empty()?;
                    }
                    Ok(())
                })?;
                for case in &self.cases {
                    let class = format!("{}.{}", self.world, self.guest);
                    let time = seconds(case.duration_ms);
                    let element = xml.create_element("testcase").with_attributes([
                        ("classname", class.as_str()),
                        ("name", case.name.as_str()),
                        ("time", time.as_str()),
                    ]);
                    if case.status == Status::Pass && case.seen.is_empty() {
                        element.write_empty()?;
                    } else {
                        element.write_inner_content(|xml| outcome(xml, case))?;
                    }
                }
                Ok(())
            })?;
            Ok(())
        })?;
        let mut bytes = xml.into_inner();
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn outcome(xml: &mut Writer<Vec<u8>>, case: &CaseResult) -> io::Result<()> {
    let place = match (&case.scene, case.frame) {
        (Some(scene), Some(frame)) => format!("\nscene {scene}, frame {frame}"),
        _ => String::new(),
    };
    let again = case.reproduce.as_ref().map(|c| format!("\nagain: {c}")).unwrap_or_default();
    // XML has no place for most control characters, escaped or not.
    let clean = |text: &str| text.chars().filter(|c| !c.is_control() || *c == '\n').collect::<String>();
    let text = clean(&format!("{}\nwhy: {}{place}{again}", case.seen, case.reason));
    let message = clean(&case.seen);
    match case.status {
        Status::Fail => {
            let element = xml.create_element("failure").with_attribute(("message", message.as_str()));
            element.write_text_content(BytesText::new(&text))?;
        }
        Status::Skipped => {
            xml.create_element("skipped").with_attribute(("message", message.as_str())).write_empty()?;
        }
        Status::Pass | Status::Advice => {
            xml.create_element("system-out").write_text_content(BytesText::new(&text))?;
        }
    }
    Ok(())
}
