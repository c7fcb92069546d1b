//! Instruction sets: which one this process runs, and how one generic body is compiled for each.
//!
//! Belongs here: detection, the override, and the dispatch macro. Does not: arithmetic.
//!
//! A kernel is an `#[inline(always)]` function, generic over `Target`. `isa_dispatch!` inlines it into one function
//! for each instruction set, where the compiler vectorises its plain loops, and calls the one that [`Isa::detect`] names.

use std::sync::OnceLock;

use crate::simd::{self, Vector};
use crate::strip::{self, Strip};

/// The environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "QKV_ISA";

/// An instruction set for which the kernels are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// What every processor of the architecture has, without fused multiply-add.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, VL, DQ and BW.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

/// `QKV_ISA` asks for something that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No instruction set has this name.
    #[error("{ISA_VARIABLE}={name}: no such instruction set; choose scalar, avx2, avx512 or neon")]
    Unknown {
        /// What the variable holds.
        name: String,
    },
    /// This processor lacks the instruction set.
    #[error("{ISA_VARIABLE}={}: this processor does not have it; the widest that it has is {}", asked.name(), widest.name())]
    Unavailable {
        /// The instruction set that was asked for.
        asked: Isa,
        /// The one that would be used without the variable.
        widest: Isa,
    },
}

impl Isa {
    const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The instruction set that the kernels of this process use. Found once, at the first call; a `QKV_ISA` that cannot
    /// be followed is ignored here and reported by [`Isa::from_env`].
    #[inline]
    pub fn detect() -> Isa {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        *FOUND.get_or_init(|| Isa::from_env().unwrap_or_else(|_| Isa::widest()))
    }

    /// The instruction set that `QKV_ISA` asks for, or the widest of this processor where the variable is unset or
    /// empty.
    ///
    /// # Errors
    ///
    /// [`IsaError`] if the name is unknown or the processor lacks the instruction set.
    pub fn from_env() -> Result<Isa, IsaError> {
        match std::env::var_os(ISA_VARIABLE) {
            Some(name) => Isa::parse(&name.to_string_lossy()),
            None => Ok(Isa::widest()),
        }
    }

    /// The name by which `QKV_ISA` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
            }
            // part of the architecture's base, so that it needs no detection
            Isa::Neon => cfg!(all(target_arch = "aarch64", target_feature = "neon")),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx2 | Isa::Avx512 => false,
        }
    }

    fn widest() -> Isa {
        [Isa::Avx512, Isa::Avx2, Isa::Neon].into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    fn parse(name: &str) -> Result<Isa, IsaError> {
        if name.is_empty() {
            return Ok(Isa::widest());
        }
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == name);
        let asked = isa.ok_or_else(|| IsaError::Unknown { name: name.to_owned() })?;
        if asked.is_available() { Ok(asked) } else { Err(IsaError::Unavailable { asked, widest: Isa::widest() }) }
    }
}

/// What a generic body may ask of the instruction set for which it is being compiled.
pub(crate) trait Target {
    /// One register.
    type Vector: Vector;

    /// 32 numbers in registers.
    type Strip: Strip;

    /// Rows of a register tile that is 32 columns wide: as many as leave no accumulator in memory.
    const TILE_ROWS: usize;

    /// `a · b + c`, rounded once where the instruction set can do so; elsewhere that would be a call for each number.
    fn mul_add(a: f32, b: f32, c: f32) -> f32;
}

macro_rules! target {
    ($(#[$meta:meta])* $name:ident, $vector:ty, $strip:ty, tile rows $rows:literal, fused) => {
        target!(@ $(#[$meta])* $name, $vector, $strip, $rows, |a: f32, b, c| a.mul_add(b, c));
    };
    ($(#[$meta:meta])* $name:ident, $vector:ty, $strip:ty, tile rows $rows:literal, separate) => {
        target!(@ $(#[$meta])* $name, $vector, $strip, $rows, |a: f32, b, c| a * b + c);
    };
    (@ $(#[$meta:meta])* $name:ident, $vector:ty, $strip:ty, $rows:literal, |$a:ident: f32, $b:ident, $c:ident| $mul_add:expr) => {
        $(#[$meta])*
        pub(crate) struct $name;
        impl Target for $name {
            type Vector = $vector;
            type Strip = $strip;
            const TILE_ROWS: usize = $rows;
            #[inline(always)]
            fn mul_add($a: f32, $b: f32, $c: f32) -> f32 {
                $mul_add
            }
        }
    };
}

target!(
    /// [`Isa::Scalar`].
    Scalar, simd::portable::Portable, strip::Portable, tile rows 1, separate
);
// 32 columns are 4 registers: 2 rows take 8 of the 16 accumulators, and leave room for the 4 of the right-hand side.
#[cfg(target_arch = "x86_64")]
target!(
    /// [`Isa::Avx2`].
    Avx2, simd::x86::Avx2, strip::x86::Avx2, tile rows 2, fused
);
// 32 columns are 2 registers: 8 rows take 16 of 32.
#[cfg(target_arch = "x86_64")]
target!(
    /// [`Isa::Avx512`].
    Avx512, simd::x86::Avx512, strip::x86::Avx512, tile rows 8, fused
);
#[cfg(target_arch = "aarch64")]
target!(
    /// [`Isa::Neon`].
    Neon, simd::neon::Neon, strip::Portable, tile rows 1, fused
);

/// `isa_dispatch!(fn name(arguments) -> result = body);` defines `name`, which runs `body::<T>` compiled for the
/// instruction set of this process. `body` is `#[inline(always)]` and generic over one [`Target`].
macro_rules! isa_dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the body decides")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "the body decides")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::isa::Avx2>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            #[allow(clippy::too_many_arguments, reason = "the body decides")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::isa::Avx512>($($arg),*)
            }
            match $crate::isa::Isa::detect() {
                // SAFETY: `detect` names only what `is_available` found, which asks for each feature enabled above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Isa::Neon => $body::<$crate::isa::Neon>($($arg),*),
                _ => $body::<$crate::isa::Scalar>($($arg),*),
            }
        }
    };
}
pub(crate) use isa_dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood_or_refused_for_want_of_the_hardware() {
        for isa in Isa::ALL {
            let expected = if isa.is_available() {
                Ok(isa)
            } else {
                Err(IsaError::Unavailable { asked: isa, widest: Isa::widest() })
            };
            assert_eq!(Isa::parse(isa.name()), expected);
        }
        assert_eq!(Isa::parse(""), Ok(Isa::widest()));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_choices() {
        let error = Isa::parse("sse9").expect_err("no such set");
        assert_eq!(error.to_string(), "QKV_ISA=sse9: no such instruction set; choose scalar, avx2, avx512 or neon");
    }

    #[test]
    fn an_unavailable_name_is_an_error_that_says_what_there_is() {
        let absent = if cfg!(target_arch = "x86_64") { Isa::Neon } else { Isa::Avx512 };
        let message = Isa::parse(absent.name()).expect_err("not on this architecture").to_string();
        assert!(message.contains(absent.name()) && message.contains(Isa::widest().name()), "{message}");
    }

    #[test]
    fn the_process_runs_what_the_environment_asks_for() {
        if let Ok(asked) = Isa::from_env() {
            assert_eq!(Isa::detect(), asked);
        }
    }

    #[inline(always)]
    fn fused_residue<T: Target>(a: f32, c: f32) -> f32 {
        T::mul_add(a, a, c)
    }
    isa_dispatch!(fn residue(a: f32, c: f32) -> f32 = fused_residue);

    #[test]
    fn dispatch_reaches_the_body_of_the_detected_set() {
        // what rounding takes from a · a, which only a fused multiply-add can see
        let a = 1.0 + f32::EPSILON;
        let expected = if Isa::detect() == Isa::Scalar { 0.0 } else { f32::EPSILON * f32::EPSILON };
        assert_eq!(residue(std::hint::black_box(a), -(a * a)), expected);
    }
}
