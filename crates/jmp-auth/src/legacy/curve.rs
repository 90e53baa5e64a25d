//! As much of P-256 (FIPS 186-5, SP 800-186) as it takes to get a public key from a private one, which ring does not
//! offer. Slow, and not in constant time: it runs once at start, on a key that is only verified with.

/// 256 bits, the lowest 64 first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Number([u64; 4]);

/// The field's prime.
const P: Number = Number([
    0xffff_ffff_ffff_ffff,
    0x0000_0000_ffff_ffff,
    0x0000_0000_0000_0000,
    0xffff_ffff_0000_0001,
]);
/// The order of the group, less one.
const N_LESS_ONE: Number = Number([
    0xf3b9_cac2_fc63_2550,
    0xbce6_faad_a717_9e84,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_0000_0000,
]);
const BASE_X: Number = Number([
    0xf4a1_3945_d898_c296,
    0x7703_7d81_2deb_33a0,
    0xf8bc_e6e5_63a4_40f2,
    0x6b17_d1f2_e12c_4247,
]);
const BASE_Y: Number = Number([
    0xcbb6_4068_37bf_51f5,
    0x2bce_3357_6b31_5ece,
    0x8ee7_eb4a_7c0f_9e16,
    0x4fe3_42e2_fe1a_7f9b,
]);
const ZERO: Number = Number([0; 4]);
const ONE: Number = Number([1, 0, 0, 0]);

/// The stream as a big-endian number modulo (order - 1), plus one.
pub(super) fn scalar_from_stream(stream: &[u8]) -> Number {
    let bits = stream
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    let remainder = bits.fold(ZERO, |sum, bit| {
        let doubled = sum.add(sum, N_LESS_ONE);
        if bit {
            doubled.add(ONE, N_LESS_ONE)
        } else {
            doubled
        }
    });
    // At most order - 1, so that there is no carry beyond 256 bits.
    remainder.add_raw(ONE).0
}

/// The base point times the scalar, uncompressed. The scalar is at least one and below the order.
pub(super) fn public_point(scalar: Number) -> Vec<u8> {
    let mut bits = scalar.bits().skip_while(|bit| !bit);
    bits.next();
    let mut point = Point {
        x: BASE_X,
        y: BASE_Y,
        z: ONE,
    };
    for bit in bits {
        point = point.doubled();
        if bit {
            point = point.plus_base();
        }
    }
    let inverse = point.z.inverse();
    let square = inverse.times(inverse);
    let mut bytes = vec![4];
    bytes.extend(point.x.times(square).to_bytes());
    bytes.extend(point.y.times(square).times(inverse).to_bytes());
    bytes
}

/// Jacobian coordinates: (x / z^2, y / z^3).
struct Point {
    x: Number,
    y: Number,
    z: Number,
}

// === impl Number ===

impl Number {
    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_mut(8).zip(self.0.iter().rev()) {
            chunk.copy_from_slice(&limb.to_be_bytes());
        }
        bytes
    }

    /// The highest first.
    fn bits(self) -> impl Iterator<Item = bool> {
        (0..256)
            .rev()
            .map(move |bit| self.0[bit / 64] >> (bit % 64) & 1 == 1)
    }

    fn add_raw(self, other: Self) -> (Self, bool) {
        let mut sum = [0; 4];
        let mut carry = false;
        for (place, (a, b)) in sum.iter_mut().zip(self.0.iter().zip(other.0)) {
            let (partial, first) = a.overflowing_add(b);
            let (total, second) = partial.overflowing_add(u64::from(carry));
            (*place, carry) = (total, first || second);
        }
        (Self(sum), carry)
    }

    fn subtract_raw(self, other: Self) -> (Self, bool) {
        let mut difference = [0; 4];
        let mut borrow = false;
        for (place, (a, b)) in difference.iter_mut().zip(self.0.iter().zip(other.0)) {
            let (partial, first) = a.overflowing_sub(b);
            let (total, second) = partial.overflowing_sub(u64::from(borrow));
            (*place, borrow) = (total, first || second);
        }
        (Self(difference), borrow)
    }

    /// Both below the modulus.
    fn add(self, other: Self, modulus: Self) -> Self {
        let (sum, carry) = self.add_raw(other);
        let (reduced, borrow) = sum.subtract_raw(modulus);
        if carry || !borrow { reduced } else { sum }
    }

    fn plus(self, other: Self) -> Self {
        self.add(other, P)
    }

    fn minus(self, other: Self) -> Self {
        let (difference, borrow) = self.subtract_raw(other);
        if borrow {
            difference.add_raw(P).0
        } else {
            difference
        }
    }

    fn times(self, other: Self) -> Self {
        other.bits().fold(ZERO, |sum, bit| {
            let doubled = sum.plus(sum);
            if bit { doubled.plus(self) } else { doubled }
        })
    }

    fn doubled(self) -> Self {
        self.plus(self)
    }

    /// By Fermat: the power p - 2.
    fn inverse(self) -> Self {
        let exponent = P.subtract_raw(Self([2, 0, 0, 0])).0;
        exponent.bits().fold(ONE, |power, bit| {
            let square = power.times(power);
            if bit { square.times(self) } else { square }
        })
    }
}

// === impl Point ===

impl Point {
    fn doubled(&self) -> Self {
        let delta = self.z.times(self.z);
        let gamma = self.y.times(self.y);
        let beta4 = self.x.times(gamma).doubled().doubled();
        let product = self.x.minus(delta).times(self.x.plus(delta));
        let alpha = product.doubled().plus(product);
        let x = alpha.times(alpha).minus(beta4.doubled());
        let gamma_square8 = gamma.times(gamma).doubled().doubled().doubled();
        let sum = self.y.plus(self.z);
        Self {
            y: alpha.times(beta4.minus(x)).minus(gamma_square8),
            z: sum.times(sum).minus(gamma).minus(delta),
            x,
        }
    }

    /// Never called for the base point itself or its opposite: the walk over the bits of a scalar below the order
    /// only adds to even multiples below it.
    fn plus_base(&self) -> Self {
        let square = self.z.times(self.z);
        let h = BASE_X.times(square).minus(self.x);
        let r = BASE_Y.times(square).times(self.z).minus(self.y);
        let h_square = h.times(h);
        let h_cube = h_square.times(h);
        let v = self.x.times(h_square);
        let x = r.times(r).minus(h_cube).minus(v.doubled());
        Self {
            y: r.times(v.minus(x)).minus(self.y.times(h_cube)),
            z: self.z.times(h),
            x,
        }
    }
}
