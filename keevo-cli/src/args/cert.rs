//! `keevo-cli cert`: a development CA and certificates.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  keevo-cli cert init certs --nodes 3 --host localhost --host 127.0.0.1
  keevod --tls-cert certs/node-1.crt --tls-key certs/node-1.key --tls-client-ca certs/ca.crt …
  keevo-cli --ca certs/ca.crt --cert certs/admin.crt --cert-key certs/admin.key cluster status
  keevo-cli cert node 4 --dir certs --host 10.0.0.4       # for one more node
  keevo-cli cert node 1 --dir certs --host 10.0.0.1 --replace     # a node takes it without a restart
  keevo-cli cert client reporter --dir certs
  keevo-cli cert show certs/node-1.crt";

/// Commands on certificates; none of them calls a node.
#[derive(Debug, Subcommand)]
pub(crate) enum Cert {
    /// Make a CA in a folder, with certificates of nodes and of the client `admin`
    Init {
        /// The folder; made if it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// How many nodes to make certificates for, from node 1 on
        #[arg(long, value_name = "N", default_value_t = 1)]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=1_000))]
        nodes: u64,
        #[command(flatten)]
        hosts: Hosts,
        /// How long the CA is valid, in days
        #[arg(long, value_name = "DAYS", default_value_t = 3_650)]
        ca_days: u32,
        /// How long the certificates are valid, in days
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        days: u32,
    },
    /// Make a node's certificate: its peers know it by the id, clients by its hosts
    Node {
        /// The node's id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        #[command(flatten)]
        hosts: Hosts,
        #[command(flatten)]
        making: Making,
    },
    /// Make a client's certificate: with authentication it has the role of this name
    Client {
        /// The client's name
        name: String,
        #[command(flatten)]
        making: Making,
    },
    /// Show the certificates in PEM files: whose they are, for which hosts and nodes, until when
    Show {
        /// PEM files
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

/// At which hosts clients reach a node.
#[derive(Debug, Args)]
pub(crate) struct Hosts {
    /// A DNS name or an address at which clients reach the node; repeatable (default: localhost, 127.0.0.1 and ::1)
    #[arg(long = "host", value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
}

/// Where a certificate is made, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Making {
    /// The folder with ca.crt and ca.key; the certificate and its key are written there too
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// How long it is valid, in days
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) days: u32,
    /// Replace the certificate and the key if they are there
    #[arg(long)]
    pub(crate) replace: bool,
}
