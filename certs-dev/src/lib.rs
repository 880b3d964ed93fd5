//! Mints certificates for development and tests: a CA, servers, clients, and the wicked ones a proxy must refuse.
//!
//! **Not for production**: the CA's key lies in a file beside the certificates, and nothing here asks who is asking.
//! Nothing minted is ever committed; each run makes its own, so nothing expires in a repository.
//!
//! ```
//! use certs_dev::{Leaf, Pki};
//! let pki = Pki::new()?;
//! let server = pki.server(&["localhost", "127.0.0.1"])?;
//! let client = pki.issue(&Leaf::client("billing").ou("payments").uri("spiffe://prod/ns/billing/sa/api"))?;
//! assert!(client.cert.starts_with("-----BEGIN CERTIFICATE-----"));
//! # Ok::<(), certs_dev::Error>(())
//! ```

mod authority;
mod leaf;
mod version1;

pub use authority::Authority;
pub use leaf::{Issued, KeyKind, Leaf, Usage};

/// Why nothing was minted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name cannot be written into a certificate.
    #[error("{name:?} cannot stand in a certificate as {what}")]
    Name {
        /// What it was to be.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// rcgen or the keys behind it failed.
    #[error(transparent)]
    Mint(#[from] rcgen::Error),
    /// A certificate just made could not be taken apart again.
    #[error("a certificate could not be encoded again")]
    Encoding,
}

/// Three authorities: the one a test trusts, an intermediate under it, and one nobody knows.
#[derive(Debug)]
pub struct Pki {
    /// The trusted root.
    pub ca: Authority,
    /// Issued by [`Pki::ca`].
    pub intermediate: Authority,
    /// A root that nobody was told to trust.
    pub other: Authority,
}

impl Pki {
    /// Makes all three, ECDSA P-256, valid for 30 days.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn new() -> Result<Self, Error> {
        Self::with_keys(KeyKind::P256)
    }

    /// The same with another kind of key for the authorities.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn with_keys(kind: KeyKind) -> Result<Self, Error> {
        let ca = Authority::root("Ravelin development CA", None, 30, kind)?;
        let intermediate = ca.intermediate("Ravelin development intermediate", 30, kind)?;
        let other = Authority::root("Some other CA", None, 30, kind)?;
        Ok(Self { ca, intermediate, other })
    }

    /// Issues from the trusted root.
    ///
    /// # Errors
    ///
    /// When a name cannot be encoded.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued, Error> {
        self.ca.issue(leaf)
    }

    /// A server certificate for these names and addresses.
    ///
    /// # Errors
    ///
    /// When a name cannot be encoded.
    pub fn server(&self, names: &[&str]) -> Result<Issued, Error> {
        self.issue(&Leaf::server(names))
    }

    /// A client certificate with this common name.
    ///
    /// # Errors
    ///
    /// When the name cannot be encoded.
    pub fn client(&self, cn: &str) -> Result<Issued, Error> {
        self.issue(&Leaf::client(cn))
    }

    /// A client certificate that must not get in.
    ///
    /// # Errors
    ///
    /// When the system has no randomness.
    pub fn wicked(&self, wicked: Wicked) -> Result<Issued, Error> {
        let leaf = Leaf::client("wicked");
        match wicked {
            Wicked::Expired => self.issue(&leaf.valid_days(-20, -10)),
            Wicked::NotYetValid => self.issue(&leaf.valid_days(10, 20)),
            Wicked::OtherCa => self.other.issue(&leaf),
            Wicked::WrongUsage => self.issue(&leaf.usage(Usage::Server)),
            Wicked::NoName => self.issue(&Leaf::nameless()),
            Wicked::NulInName => self.issue(&Leaf::client("admin\0.wicked")),
            Wicked::ControlInName => self.issue(&Leaf::client("admin\r\n{\"verdict\":\"allow\"}")),
            Wicked::NulInUri => self.issue(&leaf.uri("spiffe://prod/admin\0/wicked")),
            Wicked::TwoNames => self.issue(&leaf.second_cn("admin")),
            Wicked::Version1 => self.ca.issue_version_1(&leaf),
            // The chain is withheld: only the leaf is shown, and its issuer is not among the trusted.
            Wicked::MissingIntermediate => {
                let mut issued = self.intermediate.issue(&leaf)?;
                issued.chain.clone_from(&issued.cert);
                Ok(issued)
            }
            Wicked::MismatchedKey => {
                let mut issued = self.issue(&leaf)?;
                issued.key = self.issue(&Leaf::client("another"))?.key;
                Ok(issued)
            }
        }
    }
}

/// The ways in which a client certificate of [`Pki::wicked`] is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wicked {
    /// A carriage return, a line feed and JSON in the common name: aims at the log.
    ControlInName,
    /// Its time is over.
    Expired,
    /// The key belongs to another certificate.
    MismatchedKey,
    /// Issued by an intermediate that the client does not show.
    MissingIntermediate,
    /// No subject and no alternative name.
    NoName,
    /// Its time has not come.
    NotYetValid,
    /// A NUL in the common name: aims at C programs that stop reading there.
    NulInName,
    /// A NUL in a URI.
    NulInUri,
    /// From a CA that nobody trusts.
    OtherCa,
    /// Two common names, to be read differently by two readers.
    TwoNames,
    /// X.509 version 1, as `openssl x509 -req` without `-extfile` makes it.
    Version1,
    /// For servers only.
    WrongUsage,
}
