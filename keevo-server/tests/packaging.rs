//! What is packaged fits the daemon: every setting that a file or a manifest names is one, and says what it should.

use std::path::Path;

use keevo_server::config::{Config, Layers, Machine, SETTINGS, Setting};

const MACHINE: Machine = Machine { memory_bytes: 4 << 30, cpus: 2 };

fn packaged(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn layers(toml: &str) -> Layers {
    let mut layers = Layers::defaults();
    layers.add_toml(toml, Path::new("keevod.toml")).expect("every key is a setting");
    layers
}

/// The lines of a block of YAML, without their indent: what follows a line that ends in `start`, as far as it is deeper.
fn block(yaml: &str, start: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| !line.ends_with(start));
    let indent = |line: &str| line.len() - line.trim_start().len();
    let outer = lines.next().map_or(0, indent);
    let inner = lines.take_while(|line| line.trim().is_empty() || indent(line) > outer);
    inner.flat_map(|line| [line.trim_start(), "\n"]).collect()
}

#[test]
fn the_packaged_configuration_is_one_node_on_loopback() {
    let text = packaged("keevod.toml");
    let config = Config::from_layers_on(&layers(&text), &MACHINE).expect("it is a good configuration");
    assert_eq!(config.data_dir, Path::new("/var/lib/keevo"));
    assert!(config.grpc.ip().is_loopback() && config.http.ip().is_loopback() && !config.insecure);
    assert_eq!((config.peers.len(), config.replication_factor), (1, 1));
    // What it suggests in comments is right too, taken together.
    let suggested = text.lines().filter_map(|line| line.strip_prefix("#   ")).collect::<Vec<_>>().join("\n");
    let mut layers = layers(&suggested);
    assert_eq!(layers.text("archive_url"), "s3://backups/keevo");
    layers.add_flag("archive_url", "");
    let config =
        Config::from_layers_on(&layers, &MACHINE).expect("the cluster of the comments is a good configuration");
    assert_eq!((config.peers.len(), config.replication_factor), (3, 3));
    assert!(config.tls.is_some() && config.auth.is_some());
}

#[test]
fn the_unit_starts_what_the_package_has() {
    let unit = packaged("systemd/keevod.service");
    for line in [
        "Type=notify",
        "User=keevo",
        "ExecStart=/usr/bin/keevod --config /etc/keevo/keevod.toml",
        "StateDirectory=keevo",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ] {
        assert!(unit.lines().any(|one| one == line), "the unit lacks {line}");
    }
    let deb = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/deb.sh")).expect("readable");
    for file in ["systemd/keevod.service", "systemd/keevo.sysusers", "systemd/keevo.tmpfiles", "keevod.toml"] {
        assert!(deb.contains(&format!("$from/{file}")) && !packaged(file).is_empty(), "{file} is not packaged");
    }
}

#[test]
fn the_manifests_configure_three_nodes_that_find_each_other() {
    let yaml = packaged("kubernetes/keevo.yaml");
    let toml = block(&yaml, "keevod.toml: |");
    let script = block(&yaml, "args:");
    let flags: Vec<&str> =
        script.split_whitespace().filter_map(|word| word.strip_prefix("--")).filter(|flag| *flag != "config").collect();
    assert_eq!(flags, ["node-id", "advertise", "join", "tls-cert", "tls-key"], "{script}");
    assert!(flags.iter().all(|flag| Setting::find(&flag.replace('-', "_")).is_some()));
    for id in 1..=3 {
        let mut layers = layers(&toml);
        layers.add_flag("node_id", &id.to_string());
        layers.add_flag("advertise", &format!("keevo-{}.keevo:7101", id - 1));
        layers.add_flag("tls_cert", &format!("/etc/keevo/tls/node-{id}.crt"));
        layers.add_flag("tls_key", &format!("/etc/keevo/tls/node-{id}.key"));
        let config = Config::from_layers_on(&layers, &MACHINE).expect("a good configuration");
        assert_eq!(config.peers.get(&id), Some(&config.advertise), "node {id} is listed where it listens");
        assert!(config.auth.is_some() && config.tls.is_some() && !config.insecure);
        assert_eq!((config.grpc.port(), config.http.port()), (7101, 8101));
    }
    let probes: Vec<&str> = yaml.lines().filter_map(|line| line.trim().strip_prefix("httpGet: ")).collect();
    assert_eq!(probes.len(), 3);
    assert_eq!(probes.iter().filter(|probe| probe.contains("/ready")).count(), 1, "only readiness asks for leaders");
    assert!(yaml.contains("publishNotReadyAddresses: true") && yaml.contains("podManagementPolicy: Parallel"));
}

#[test]
fn the_image_sets_what_exists() {
    let file = packaged("docker/Dockerfile");
    let variables: Vec<&str> = file
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("KEEVO_")?.split_once('=').map(|(name, _)| name))
        .collect();
    assert!(variables.len() >= 4, "{variables:?}");
    for name in variables {
        assert!(SETTINGS.iter().any(|setting| setting.name == name.to_lowercase()), "KEEVO_{name} is no setting");
    }
    assert!(file.contains("\nUSER 10001:10001\n") && file.contains("\nHEALTHCHECK "));
}
