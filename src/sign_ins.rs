//! The settings of sign-ins, and the device flows that are open on this node. Who a person is, and
//! what the person may do, is decided in [`crate::upstream`] and [`crate::sign_in`].

mod devices;
mod settings;

#[cfg(any(test, feature = "internals"))]
pub use devices::Full;
pub use devices::{Devices, Poll};
pub use settings::{AppClient, ProviderDetails, ProviderShown, Settings};

/// The settings of sign-ins, and the device flows that this node keeps in memory.
pub struct SignIns {
    pub settings: Settings,
    pub devices: Devices,
}

impl SignIns {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            devices: Devices::default(),
        }
    }
}
