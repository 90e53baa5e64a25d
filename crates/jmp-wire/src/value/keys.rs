//! Map keys: text on the wire, text, numbers and booleans in Rust.

use std::fmt::Display;

use serde::de::{Deserializer, Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde::ser::{self, Impossible, Serialize};

use super::ValueError;
use super::serialize::utf8;

/// Turns map keys into text.
#[derive(Default)]
pub(super) struct KeySerializer {
    transparent: usize,
}

// === impl KeySerializer ===

impl KeySerializer {
    fn enter_transparent(self) -> Result<Self, ValueError> {
        if self.transparent == super::MAX_TRANSPARENT_DEPTH {
            return Err(ValueError::too_deep());
        }
        Ok(Self {
            transparent: self.transparent + 1,
        })
    }
}

fn no_key(found: &str) -> ValueError {
    ValueError::new(format_args!(
        "map keys must be text, numbers or booleans, not {found}"
    ))
}

macro_rules! serialize_displayed_keys {
    ($($method:ident($type:ty)),* $(,)?) => {
        $(fn $method(self, v: $type) -> Result<String, ValueError> {
            Ok(v.to_string())
        })*
    };
}

impl ser::Serializer for KeySerializer {
    type Ok = String;
    type Error = ValueError;
    type SerializeSeq = Impossible<String, ValueError>;
    type SerializeTuple = Impossible<String, ValueError>;
    type SerializeTupleStruct = Impossible<String, ValueError>;
    type SerializeTupleVariant = Impossible<String, ValueError>;
    type SerializeMap = Impossible<String, ValueError>;
    type SerializeStruct = Impossible<String, ValueError>;
    type SerializeStructVariant = Impossible<String, ValueError>;

    serialize_displayed_keys! {
        serialize_bool(bool), serialize_char(char), serialize_str(&str),
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32),
        serialize_u64(u64), serialize_u128(u128), serialize_f32(f32), serialize_f64(f64),
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<String, ValueError> {
        utf8(bytes)
    }

    fn serialize_none(self) -> Result<String, ValueError> {
        Err(no_key("none"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, inner: &T) -> Result<String, ValueError> {
        inner.serialize(self.enter_transparent()?)
    }

    fn serialize_unit(self) -> Result<String, ValueError> {
        Err(no_key("unit"))
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<String, ValueError> {
        Err(no_key(name))
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<String, ValueError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        inner: &T,
    ) -> Result<String, ValueError> {
        inner.serialize(self.enter_transparent()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _inner: &T,
    ) -> Result<String, ValueError> {
        Err(no_key(variant))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self::SerializeSeq, ValueError> {
        Err(no_key("a sequence"))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self::SerializeTuple, ValueError> {
        Err(no_key("a tuple"))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleStruct, ValueError> {
        Err(no_key(name))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, ValueError> {
        Err(no_key(variant))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self::SerializeMap, ValueError> {
        Err(no_key("a map"))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStruct, ValueError> {
        Err(no_key(name))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, ValueError> {
        Err(no_key(variant))
    }

    fn collect_str<T: Display + ?Sized>(self, text: &T) -> Result<String, ValueError> {
        Ok(text.to_string())
    }
}

/// Reads a map key: text, or a number or boolean written as text.
pub(super) struct KeyDeserializer<'a> {
    pub(super) key: &'a str,
}

macro_rules! deserialize_parsed_keys {
    ($($method:ident => $visit:ident: $type:ty, $expected:literal;)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            match self.key.parse::<$type>() {
                Ok(parsed) => visitor.$visit(parsed),
                Err(_) => Err(ValueError::invalid_value(
                    Unexpected::Str(self.key),
                    &concat!("a key that is ", $expected),
                )),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for KeyDeserializer<'_> {
    type Error = ValueError;

    deserialize_parsed_keys! {
        deserialize_bool => visit_bool: bool, "true or false";
        deserialize_i8 => visit_i64: i64, "an integer";
        deserialize_i16 => visit_i64: i64, "an integer";
        deserialize_i32 => visit_i64: i64, "an integer";
        deserialize_i64 => visit_i64: i64, "an integer";
        deserialize_i128 => visit_i128: i128, "an integer";
        deserialize_u8 => visit_u64: u64, "an integer, not negative";
        deserialize_u16 => visit_u64: u64, "an integer, not negative";
        deserialize_u32 => visit_u64: u64, "an integer, not negative";
        deserialize_u64 => visit_u64: u64, "an integer, not negative";
        deserialize_u128 => visit_u128: u128, "an integer, not negative";
        deserialize_f32 => visit_f32: f32, "a number";
        deserialize_f64 => visit_f64: f64, "a number";
    }

    forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_str(self.key)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_bytes(self.key.as_bytes())
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_bytes(self.key.as_bytes())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        visitor.visit_enum(self.key.into_deserializer())
    }
}
