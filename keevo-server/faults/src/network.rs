//! The network between the nodes: a namespace each, a bridge, and packets that get lost on the way.
//!
//! ```text
//! this program ── kf0 (bridge, 10.83.0.254) ─┬─ kf1 ── eth0, 10.83.0.1 in the namespace kf1
//!                                            ├─ kf2 ── eth0, 10.83.0.2 in the namespace kf2
//!                                            └─ kf3 ── …
//! ```
//!
//! Faults are rules in the namespace of the node that is not to hear. Everything lives in the program's own network
//! namespace, so that nothing of the machine's network is touched, and nothing is left behind.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use keevo_core::{Error, ErrorKind, Result};

use crate::tools::{self, words};

const BRIDGE: &str = "kf0";
const NETWORK: &str = "10.83.0";

/// The nodes' network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    /// Whether each node has a namespace.
    namespaces: bool,
}

/// The highest id of a node that can be put on the bridge.
const NODES_MAX: u64 = 9;

fn namespace(node: u64) -> String {
    format!("kf{node}")
}

fn address(node: u64) -> IpAddr {
    let last = u8::try_from(node).unwrap_or(u8::MAX);
    IpAddr::V4(Ipv4Addr::new(10, 83, 0, last))
}

impl Network {
    /// Plain loopback: no fault can be made.
    pub(crate) fn loopback() -> Self {
        Self { namespaces: false }
    }

    /// A bridge that nodes can be put on. Needs the privileges of a namespace of the program's own.
    pub(crate) fn bridge() -> Result<Self> {
        // `ip netns` and `iptables` keep their files there; it is the program's own from now on.
        words("mount -t tmpfs tmpfs /run")?;
        words("ip link set lo up")?;
        words(&format!("ip link add {BRIDGE} type bridge"))?;
        words(&format!("ip addr add {NETWORK}.254/24 dev {BRIDGE}"))?;
        words(&format!("ip link set {BRIDGE} up"))?;
        for node in 1..=NODES_MAX {
            let name = namespace(node);
            words(&format!("ip netns add {name}"))?;
            words(&format!("ip link add {name} type veth peer name eth0 netns {name}"))?;
            words(&format!("ip link set {name} master {BRIDGE} up"))?;
            words(&format!("ip -n {name} addr add {}/24 dev eth0", address(node)))?;
            words(&format!("ip -n {name} link set eth0 up"))?;
            words(&format!("ip -n {name} link set lo up"))?;
        }
        Ok(Self { namespaces: true })
    }

    /// Whether packets can be dropped.
    pub(crate) fn has_faults(self) -> bool {
        self.namespaces && tools::have("iptables")
    }

    fn demand(self) -> Result<()> {
        let missing = || Error::invalid("packets on plain loopback are not dropped");
        self.has_faults().then_some(()).ok_or_else(missing)
    }

    /// Addresses for gRPC and HTTP of a node.
    pub(crate) fn addresses(self, node: u64) -> Result<(SocketAddr, SocketAddr)> {
        if !self.namespaces {
            return free_addresses();
        }
        if node > NODES_MAX {
            return Err(Error::invalid(format!("there is no place on the bridge for node {node}")));
        }
        Ok((SocketAddr::new(address(node), 7101), SocketAddr::new(address(node), 8101)))
    }

    /// What a node's program is started through.
    pub(crate) fn prefix(self, node: u64) -> Vec<String> {
        if !self.namespaces {
            return Vec::new();
        }
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", namespace(node)), "--".to_owned()]
    }

    /// From now on `to` hears nothing of `from`.
    pub(crate) fn cut(self, from: u64, to: u64) -> Result<()> {
        self.demand()?;
        words(&format!("ip netns exec {} iptables -A INPUT -s {} -j DROP", namespace(to), address(from))).map(drop)
    }

    /// From now on these nodes lose this share of what is sent to them, by whomever.
    pub(crate) fn lose(self, nodes: &[u64], percent: u8) -> Result<()> {
        self.demand()?;
        for &node in nodes {
            words(&format!(
                "ip netns exec {} iptables -A INPUT -i eth0 -m statistic --mode random --probability {} -j DROP",
                namespace(node),
                f64::from(percent) / 100.0
            ))?;
        }
        Ok(())
    }

    /// Ends all faults of these nodes; how many packets they swallowed.
    pub(crate) fn heal(self, nodes: &[u64]) -> Result<u64> {
        let mut dropped = 0;
        if !self.has_faults() {
            return Ok(dropped);
        }
        for &node in nodes {
            let name = namespace(node);
            let rules = words(&format!("ip netns exec {name} iptables -nvxL INPUT"))?;
            dropped += packets_dropped(&rules);
            words(&format!("ip netns exec {name} iptables -F INPUT"))?;
        }
        Ok(dropped)
    }
}

/// The packets that the DROP rules of `iptables -nvxL` have met.
fn packets_dropped(rules: &str) -> u64 {
    let drops = rules.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let packets: u64 = columns.next()?.parse().ok()?;
        (columns.nth(1) == Some("DROP")).then_some(packets)
    });
    drops.sum()
}

/// Two free addresses on loopback.
fn free_addresses() -> Result<(SocketAddr, SocketAddr)> {
    let bind = || -> std::io::Result<(std::net::TcpListener, SocketAddr)> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let both = bind().and_then(|first| Ok((first, bind()?)));
    let ((_first, grpc), (_second, http)) =
        both.map_err(|error| Error::new(ErrorKind::Io, "no loopback port is free").with_source(error))?;
    Ok((grpc, http))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_packets_are_counted_from_what_iptables_says() {
        let rules = "Chain INPUT (policy ACCEPT 7 packets, 588 bytes)\n    pkts      bytes target     prot opt in     \
                     out     source               destination\n      41     3444 DROP       0    --  *      *       \
                     10.83.0.2            0.0.0.0/0\n       9      100 ACCEPT     0    --  *      *       10.83.0.3  \
                     0.0.0.0/0\n       1       84 DROP       0    --  eth0   *       0.0.0.0/0  0.0.0.0/0\n";
        assert_eq!(packets_dropped(rules), 42);
        assert_eq!(packets_dropped(""), 0);
    }
}
