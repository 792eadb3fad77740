//! [`register!`](crate::register), the macro that makes a component of a crate.

/// Exports a type as the crate's plugin: `register!(collector: Evm);`, `register!(health_policy: Progress);` or
/// `register!(notifier: Webhook);`. Use it once, in a crate of type `cdylib`.
#[macro_export]
macro_rules! register {
    (collector: $plugin:ty) => {
        $crate::register!(@identity $plugin);
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::exported::<$crate::CollectorComponent<$plugin>>;
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::CollectorComponent<$plugin>;
            $crate::bindings::about::export!(Exported with_types_in $crate::bindings::about);
            $crate::bindings::collector::export!(Exported with_types_in $crate::bindings::collector);
        };
    };
    (health_policy: $plugin:ty) => {
        $crate::register!(@identity $plugin);
        impl $crate::policy::Configured for $plugin {
            fn configured() -> &'static ::std::sync::OnceLock<<Self as $crate::HealthPolicy>::Config> {
                static CONFIG: ::std::sync::OnceLock<<$plugin as $crate::HealthPolicy>::Config> =
                    ::std::sync::OnceLock::new();
                &CONFIG
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::exported::<$crate::PolicyComponent<$plugin>>;
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::PolicyComponent<$plugin>;
            $crate::bindings::about::export!(Exported with_types_in $crate::bindings::about);
            $crate::bindings::policy::export!(Exported with_types_in $crate::bindings::policy);
        };
    };
    (notifier: $plugin:ty) => {
        $crate::register!(@identity $plugin);
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::exported::<$crate::NotifierComponent<$plugin>>;
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::NotifierComponent<$plugin>;
            $crate::bindings::about::export!(Exported with_types_in $crate::bindings::about);
            $crate::bindings::notifier::export!(Exported with_types_in $crate::bindings::notifier);
        };
    };
    (@identity $plugin:ty) => {
        impl $crate::Identity for $plugin {
            const PACKAGE: $crate::Package = $crate::Package {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                summary: env!("CARGO_PKG_DESCRIPTION"),
            };
        }
    };
}
