//! Every action of the IAM API that is answered: what the wire dispatches on, and the only file that
//! knows them all.

use super::action::Action;
use super::mfa_devices::{
    CreateVirtualMfaDevice, DeactivateMfaDevice, DeleteVirtualMfaDevice, EnableMfaDevice,
    ListMfaDevices, ListVirtualMfaDevices, ResyncMfaDevice,
};

/// Something that can be done with any action.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<A: Action>(self) -> Self::Output;
}

macro_rules! actions {
    ($($action:ident),+ $(,)?) => {
        /// The names of all actions that are answered.
        #[cfg(any(test, feature = "internals"))]
        pub const NAMES: &[&str] = &[$($action::NAME),+];

        /// Hands the action of that name to a visitor.
        ///
        /// # Errors
        /// The visitor, if there is no such action.
        pub fn visit<V: Visitor>(name: &str, visitor: V) -> Result<V::Output, V> {
            match name {
                $($action::NAME => Ok(visitor.visit::<$action>()),)+
                _ => Err(visitor),
            }
        }
    };
}

actions! {
    CreateVirtualMfaDevice,
    DeactivateMfaDevice,
    DeleteVirtualMfaDevice,
    EnableMfaDevice,
    ListMfaDevices,
    ListVirtualMfaDevices,
    ResyncMfaDevice,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name;

    impl Visitor for Name {
        type Output = &'static str;

        fn visit<A: Action>(self) -> &'static str {
            A::NAME
        }
    }

    #[test]
    fn each_action_has_a_name_of_its_own() {
        for name in NAMES {
            assert_eq!(visit(name, Name).ok(), Some(*name));
            assert_eq!(NAMES.iter().filter(|n| *n == name).count(), 1, "{name}");
        }
        assert!(visit("Nonsense", Name).is_err());
    }
}
