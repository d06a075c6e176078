//! Why a rule decided so: an enum of the rule's own, one text for each of its variants.

/// The number of a reason, as it goes over the wall: 0 says nothing, others count the variants of the rule's enum from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Reason(u16);

impl Reason {
    /// Nothing to say.
    pub const NONE: Self = Self(0);

    /// As the host knows it.
    #[must_use]
    #[inline]
    pub const fn code(self) -> u16 {
        self.0
    }

    pub(crate) const fn from_code(code: u16) -> Self {
        Self(code)
    }
}

/// An enum of reasons. [`reasons!`](crate::reasons) implements it.
pub trait Reasons: Copy + 'static {
    /// Place among the variants, from 0.
    fn place(self) -> u16;
}

impl<R: Reasons> From<R> for Reason {
    #[inline]
    fn from(reason: R) -> Self {
        Self(reason.place().saturating_add(1))
    }
}

impl<R: Reasons> From<Option<R>> for Reason {
    #[inline]
    fn from(reason: Option<R>) -> Self {
        reason.map_or(Self::NONE, Self::from)
    }
}

impl<R: Reasons> PartialEq<R> for Reason {
    fn eq(&self, other: &R) -> bool {
        *self == Self::from(*other)
    }
}

/// Declares why a rule decides so: an enum whose variants have a text each, which may tell numbers of the config.
///
/// ```
/// # use pingward_sdk::{About, Config, Policy, reasons};
/// pub struct Rule {
///     limit: u16,
/// }
///
/// reasons! {
///     /// Why a member stands where it stands.
///     pub enum Why of rule: &Rule {
///         Missed: "missed a round",
///         Suspended: format!("missed {} rounds in a row", rule.limit),
///     }
/// }
///
/// impl Policy for Rule {
///     fn configure(config: &mut Config) -> Result<Self, String> {
///         Ok(Self { limit: config.integer("limit", 3, 1..=1_000)? as u16 })
///     }
///
///     fn about(&self) -> About {
///         About::new("my-ban-rule", "0.1.0").reasons(Why::texts(self))
///     }
/// }
/// ```
///
/// The host stores a text with the policy and a number with each decision; texts have at most 200 bytes.
#[macro_export]
macro_rules! reasons {
    (
        $(#[$about:meta])*
        $scope:vis enum $name:ident of $rule:ident: &$config:ty {
            $($(#[$each:meta])* $variant:ident: $text:expr),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $scope enum $name {
            $(
                #[doc = stringify!($text)]
                $(#[$each])*
                $variant
            ),+
        }

        impl $name {
            /// What each one says under this config, in their order.
            #[allow(unused_variables, reason = "the texts need not tell anything of the config")]
            $scope fn texts($rule: &$config) -> Vec<String> {
                vec![$(String::from($text)),+]
            }
        }

        impl $crate::Reasons for $name {
            #[inline]
            fn place(self) -> u16 {
                self as u16
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rule {
        limit: u16,
    }

    reasons! {
        enum Why of rule: &Rule {
            Missed: "missed a round",
            Suspended: format!("missed {} rounds in a row", rule.limit),
        }
    }

    #[test]
    fn codes_count_from_one_in_the_order_of_the_texts() {
        assert_eq!(Why::texts(&Rule { limit: 3 }), ["missed a round", "missed 3 rounds in a row"]);
        assert_eq!((Reason::from(Why::Missed).code(), Reason::from(Why::Suspended).code()), (1, 2));
        assert_eq!((Reason::from(None::<Why>), Reason::from(Some(Why::Missed)).code()), (Reason::NONE, 1));
        assert_eq!(Reason::from_code(2), Why::Suspended);
        assert_ne!(Reason::NONE, Why::Missed);
    }
}
