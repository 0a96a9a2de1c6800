//! Certificates.

use keevo_tls::CertificateInfo;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::{line, time};

/// The certificates of some files, and when they were looked at.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// Each with the file that it is in.
    pub(crate) found: Vec<(String, CertificateInfo)>,
    /// Milliseconds since 1970.
    pub(crate) now_ms: u64,
}

fn ms(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000)
}

fn state(info: &CertificateInfo, now_ms: u64) -> &'static str {
    if now_ms < ms(info.not_before_s) {
        "not valid yet"
    } else if now_ms > ms(info.not_after_s) {
        "expired"
    } else {
        "valid"
    }
}

fn kind(info: &CertificateInfo) -> String {
    match info.nodes.as_slice() {
        _ if info.is_ca => "CA".to_owned(),
        [] => "client".to_owned(),
        [node] => format!("node {node}"),
        _ => "names several nodes".to_owned(),
    }
}

impl Answer for Certificates {
    fn table(&self) -> String {
        let rows = self.found.iter().map(|(file, info)| {
            let until = format!("{} until {}", state(info, self.now_ms), time(ms(info.not_after_s)));
            [line(file), kind(info), line(&info.name), line(&info.hosts.join(" ")), until]
        });
        table(["File", "Kind", "Name", "Hosts", "State"], rows.collect(), "no certificates")
    }

    fn json(&self) -> Value {
        let one = |(file, info): &(String, CertificateInfo)| {
            json!({
                "file": file, "name": info.name, "issuer": info.issuer, "hosts": info.hosts, "nodes": info.nodes,
                "ca": info.is_ca, "not_before_ms": ms(info.not_before_s), "not_after_ms": ms(info.not_after_s),
                "sha256": info.sha256, "state": state(info, self.now_ms),
            })
        };
        json!({ "certificates": self.found.iter().map(one).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("certificates")
    }
}
