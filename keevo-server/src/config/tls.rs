//! What keevod is told of TLS.

use std::path::PathBuf;

use keevo_core::Result;
use keevo_tls::ServerFiles;

use super::layers::Layers;

/// The files of the node's TLS; `None` where no certificate is set.
///
/// `Config`: a certificate without its key, a CA without a certificate, or a node that may have peers and is given no CA
/// to know them by.
pub(super) fn from_layers(layers: &Layers, node_id: u64, auth: bool, alone: bool) -> Result<Option<ServerFiles>> {
    let path = |name: &str| Some(layers.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from);
    let (cert, key, client_ca) = (path("tls_cert"), path("tls_key"), path("tls_client_ca"));
    let peer_ca = path("tls_peer_ca").or_else(|| client_ca.clone());
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) if peer_ca.is_some() => {
            return Err(layers.refuse("tls_cert", "a PEM file, since a CA is set: it is of use over TLS only"));
        }
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(layers.refuse("tls_key", "the PEM file with the key of tls_cert")),
        (None, Some(_)) => return Err(layers.refuse("tls_cert", "the PEM file with the certificate of tls_key")),
    };
    if peer_ca.is_none() && !alone {
        return Err(layers.refuse(
            "tls_peer_ca",
            "the PEM file of the CA that signs the nodes' certificates: over TLS nodes show each other who they are",
        ));
    }
    // With authentication a key will do instead of a certificate.
    let client_required = client_ca.is_some() && !auth;
    Ok(Some(ServerFiles { cert, key, client_ca, peer_ca, client_required, node_id }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ErrorKind;

    fn tls(settings: &[(&str, &str)], auth: bool, alone: bool) -> Result<Option<ServerFiles>> {
        let mut layers = Layers::defaults();
        for (name, value) in settings {
            layers.add_flag(name, value);
        }
        from_layers(&layers, 7, auth, alone)
    }

    #[test]
    fn tls_is_whole_or_not_at_all() {
        let (cert, key, clients, peers) =
            (("tls_cert", "c"), ("tls_key", "k"), ("tls_client_ca", "cc"), ("tls_peer_ca", "pc"));
        assert_eq!(tls(&[], true, false).expect("none"), None);
        for (settings, wrong) in [
            (&[cert][..], "tls_key"),
            (&[key], "tls_cert"),
            (&[clients], "tls_cert"),
            (&[peers], "tls_cert"),
            (&[cert, key], "tls_peer_ca"),
        ] {
            let error = tls(settings, false, false).expect_err(wrong);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().starts_with(wrong), "{error}");
        }
        let files = |settings: &[(&str, &str)], auth| tls(settings, auth, true).expect("good").expect("TLS");
        assert_eq!(files(&[cert, key], false).peer_ca, None, "a node alone");
        let all = files(&[cert, key, clients, peers], false);
        assert_eq!((all.client_ca, all.peer_ca), (Some("cc".into()), Some("pc".into())));
        assert!(all.client_required && all.node_id == 7);
        assert_eq!(files(&[cert, key, clients], false).peer_ca, Some("cc".into()), "one CA for all");
        assert!(!files(&[cert, key, clients], true).client_required, "a key will do");
        assert!(!files(&[cert, key, peers], false).client_required, "clients have no CA");
    }
}
