//! A real Apache Kafka for the tests: its jars, through Maven, into `target/assets/kafka/libs`.
//!
//! Needs Java 17 and Maven; where they are missing the tests that need a real broker are skipped, so the caller may
//! report the error and go on. Starts nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

const VERSION: &str = "4.1.0";
/// Maven checks what it downloads against sums from the same place; these two were looked at.
const PINNED: [(&str, &str); 2] = [
    ("kafka_2.13-4.1.0.jar", "0de0471a4c7a9e734c166822a26a4bb064eb81cb2c7a8b1345912cad78997a7b"),
    ("kafka-clients-4.1.0.jar", "eb74709dc3be35e06208827860c87a94872e8a4b00f466880670785c85a20627"),
];
/// `StorageTool` is in `kafka_2.13`, what it calls in `kafka-tools`; without `slf4j-simple` brokers log nothing.
const ARTIFACTS: [(&str, &str, &str); 3] = [
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
];

/// Fetches the jars unless they are there, and gives their folder.
///
/// # Errors
/// When Java or Maven is missing (the message says what to install), Maven fails, or a jar is not the one expected.
pub(crate) fn fetch(root: &Path) -> anyhow::Result<PathBuf> {
    let dir = root.join("target/assets/kafka");
    let libs = dir.join("libs");
    if verify(&libs).is_ok() {
        return Ok(libs);
    }
    for (program, package) in [("java", "default-jre-headless"), ("mvn", "maven")] {
        let found = Command::new(program).arg("-version").output().is_ok_and(|o| o.status.success());
        ensure!(found, "{program} is missing, so tests against a real Kafka are skipped: apt-get install {package}");
    }
    // Beside, then renamed: a folder that is there is whole.
    let part = dir.join("libs.part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("cannot clear {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    let pom = dir.join("pom.xml");
    fs::write(&pom, pom_text()).with_context(|| format!("cannot write {}", pom.display()))?;
    let maven = Command::new("mvn")
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", part.display()))
        .output()
        .context("cannot start mvn")?;
    if !maven.status.success() {
        bail!(
            "Maven could not fetch Kafka {VERSION} ({}):\n{}{}",
            maven.status,
            String::from_utf8_lossy(&maven.stdout),
            String::from_utf8_lossy(&maven.stderr)
        );
    }
    verify(&part)?;
    if libs.exists() {
        fs::remove_dir_all(&libs).with_context(|| format!("cannot clear {}", libs.display()))?;
    }
    fs::rename(&part, &libs).with_context(|| format!("cannot put {} in place", libs.display()))?;
    Ok(libs)
}

fn verify(libs: &Path) -> anyhow::Result<()> {
    for (name, expected) in PINNED {
        let path = libs.join(name);
        let bytes = fs::read(&path).with_context(|| format!("{} is missing", path.display()))?;
        let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        ensure!(found == expected, "{} has sha256 {found}, expected {expected}", path.display());
    }
    Ok(())
}

fn pom_text() -> String {
    let dependencies: String = ARTIFACTS
        .iter()
        .map(|(group, artifact, version)| {
            format!(
                "    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
                 <version>{version}</version></dependency>\n"
            )
        })
        .collect();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">\n  <modelVersion>4.0.0</modelVersion>\n  \
         <groupId>facestream</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>\
         <packaging>pom</packaging>\n  <dependencies>\n{dependencies}  </dependencies>\n</project>\n"
    )
}
