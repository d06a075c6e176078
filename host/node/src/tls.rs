//! TLS 1.3 both ways between nodes, pinned to ed25519 keys. There is no CA: a certificate is made from the node's key
//! and signed by it, and the key is the node.
//!
//! Invariant: after a handshake the other side has proven that it holds the key that its certificate names.

use std::sync::{Arc, Mutex, PoisonError};

use kernel::id::NodeId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};

use crate::keys::NodeKey;

/// SubjectPublicKeyInfo header of an ed25519 key; the 32 bytes of the key follow.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// Every certificate and every client says it; nobody looks at it.
const NAME: &str = "pingward.node";
const ALPN: &[u8] = b"h2";

/// Makes ring the process's one provider of cryptography. Call it first in main; again is harmless.
pub fn install_provider() {
    let _installed_before = ring::default_provider().install_default();
}

/// What a key cannot be turned into.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate.
    #[error("cannot make a certificate of the node's key: {0}")]
    Certificate(rcgen::Error),
    /// The configuration.
    #[error("cannot set up TLS: {0}")]
    Setup(Error),
}

/// For accepting nodes: any key that proves itself. Who is welcome is for the kernel to say.
///
/// # Errors
/// [`TlsError`].
pub fn server(key: &NodeKey) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificate, private) = certificate(key)?;
    let verifier = Arc::new(Pinned::new(None));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], private)
        .map_err(TlsError::Setup)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Nodes stay connected for long: tickets would cost memory and save nothing.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For one dial.
#[derive(Clone, Debug)]
pub struct Dial {
    /// For the connector.
    pub config: Arc<ClientConfig>,
    /// The name to ask for; any will do.
    pub name: ServerName<'static>,
    verifier: Arc<Pinned>,
}

impl Dial {
    /// With a key that the other side must show; `None`: any, to be compared with what is known of the address.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(key: &NodeKey, expected: Option<NodeId>) -> Result<Self, TlsError> {
        let (certificate, private) = certificate(key)?;
        let verifier = Arc::new(Pinned::new(expected));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Setup)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(vec![certificate], private)
            .map_err(TlsError::Setup)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would not show its certificate again.
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(NAME).map_err(|_| TlsError::Setup(Error::General("server name".into())))?;
        Ok(Self { config: Arc::new(config), name, verifier })
    }

    /// The key that the other side showed, also when it was refused for it.
    #[must_use]
    pub fn shown(&self) -> Option<NodeId> {
        *self.verifier.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is on the other side of a finished handshake.
///
/// # Errors
/// When it showed no usable key, which the handshake does not let through.
pub fn peer(connection: &CommonState) -> Result<NodeId, Error> {
    let certificates = connection.peer_certificates().unwrap_or_default();
    certificates.first().map_or(Err(Error::NoCertificatesPresented), key_of)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificate(key: &NodeKey) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), TlsError> {
    let private = PrivatePkcs8KeyDer::from(key.pkcs8().to_vec());
    let pair =
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&private, &rcgen::PKCS_ED25519).map_err(TlsError::Certificate)?;
    let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])
        .and_then(|params| params.self_signed(&pair))
        .map_err(TlsError::Certificate)?;
    Ok((certificate.der().clone(), private.into()))
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<NodeId, Error> {
    let parsed = rustls::server::ParsedCertificate::try_from(certificate)?;
    let spki = parsed.subject_public_key_info();
    let raw = spki.as_ref().strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
    raw.and_then(|raw| NodeId::checked(raw).ok()).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Verifies both sides: the certificate names the expected key, and the handshake is signed with it.
#[derive(Debug)]
struct Pinned {
    expected: Option<NodeId>,
    shown: Mutex<Option<NodeId>>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn new(expected: Option<NodeId>) -> Self {
        Self { expected, shown: Mutex::new(None), provider: provider() }
    }

    fn check(&self, certificate: &CertificateDer<'_>, more: &[CertificateDer<'_>]) -> Result<(), Error> {
        let shown = key_of(certificate)?;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        if self.expected.is_some_and(|expected| expected != shown) || !more.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(())
    }

    /// Without this anybody could present anybody's certificate.
    fn proof(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(certificate, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proof(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(certificate, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proof(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A client that shows no certificate.
#[cfg(test)]
pub(crate) fn anonymous() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned::new(None)))
        .with_no_client_auth();
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::duplex;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    /// Both ends of a handshake over a pipe: who each saw, or why not.
    async fn shake(server: &NodeKey, dial: Dial) -> (io::Result<NodeId>, io::Result<NodeId>) {
        let (a, b) = duplex(16 << 10);
        let accept = async {
            let stream = TlsAcceptor::from(super::server(server).unwrap()).accept(a).await?;
            peer(stream.get_ref().1).map_err(io::Error::other)
        };
        let connect = async {
            let stream = TlsConnector::from(dial.config).connect(dial.name, b).await?;
            peer(stream.get_ref().1).map_err(io::Error::other)
        };
        tokio::join!(accept, connect)
    }

    #[tokio::test]
    async fn each_side_learns_the_others_key() {
        let (ours, theirs) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        for expected in [None, Some(ours.id())] {
            let dial = Dial::new(&theirs, expected).unwrap();
            let (server, client) = shake(&ours, dial.clone()).await;
            assert_eq!((server.unwrap(), client.unwrap()), (theirs.id(), ours.id()));
            assert_eq!(dial.shown(), Some(ours.id()));
        }
    }

    #[tokio::test]
    async fn another_key_than_the_pinned_one_is_refused_and_named() {
        let (ours, theirs) = (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]));
        let dial = Dial::new(&theirs, Some(theirs.id())).unwrap();
        let (server, client) = shake(&ours, dial.clone()).await;
        assert!(server.is_err() && client.is_err());
        assert_eq!(dial.shown(), Some(ours.id()));
    }

    #[tokio::test]
    async fn a_client_without_a_certificate_is_refused() {
        let ours = NodeKey::from_seed(&[1; 32]);
        let mut dial = Dial::new(&ours, None).unwrap();
        dial.config = anonymous();
        let (server, _client) = shake(&ours, dial).await;
        assert!(server.is_err());
    }

    #[tokio::test]
    async fn somebody_elses_certificate_is_refused() {
        // The certificate of one key, the handshake signed with another.
        let (ours, victim, thief) =
            (NodeKey::from_seed(&[1; 32]), NodeKey::from_seed(&[2; 32]), NodeKey::from_seed(&[3; 32]));
        #[derive(Debug)]
        struct Stolen(Arc<rustls::sign::CertifiedKey>);
        impl rustls::client::ResolvesClientCert for Stolen {
            fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
                Some(Arc::clone(&self.0))
            }
            fn has_certs(&self) -> bool {
                true
            }
        }
        let stolen = certificate(&victim).unwrap().0;
        let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(thief.pkcs8().to_vec())).unwrap();
        let resolver = Stolen(Arc::new(rustls::sign::CertifiedKey::new(vec![stolen], signer)));
        let mut dial = Dial::new(&thief, None).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned::new(None)))
            .with_client_cert_resolver(Arc::new(resolver));
        dial.config = Arc::new(config);
        let (server, _client) = shake(&ours, dial).await;
        assert!(server.is_err());
    }

    #[test]
    fn only_ed25519_certificates_name_a_node() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap().self_signed(&pair).unwrap();
        assert!(key_of(certificate.der()).is_err());
        assert!(key_of(&CertificateDer::from(vec![0x30, 0])).is_err());
    }
}
