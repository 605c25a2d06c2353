//! Stands in for the crate of the same name, by `[patch.crates-io]` in the workspace's Cargo.toml: that one is under the LGPL, and
//! a Rust program links statically. Written from how serde_avro_fast calls it.

#[doc(hidden)]
pub use serde;

/// Methods of an `impl serde::Serializer` that refuse a value, one for each kind that is named: `bool`, `seq`, `struct` and so on,
/// as in `serialize_bool`. Those of compound kinds come with their associated type.
///
/// ```
/// use serde::ser::{Error as _, Serialize, Serializer};
/// use serde_serializer_quick_unsupported::serializer_unsupported;
///
/// struct OnlyText;
/// impl Serializer for OnlyText {
///     type Ok = String;
///     type Error = std::fmt::Error;
///     fn serialize_str(self, text: &str) -> Result<String, std::fmt::Error> {
///         Ok(text.to_owned())
///     }
///     serializer_unsupported! {
///         err = (std::fmt::Error::custom("not a text"));
///         bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes none some unit unit_struct unit_variant
///         newtype_struct newtype_variant seq tuple tuple_struct tuple_variant map struct struct_variant
///     }
/// }
/// assert_eq!("a".serialize(OnlyText), Ok("a".to_owned()));
/// assert!(7.serialize(OnlyText).is_err() && vec!["a"].serialize(OnlyText).is_err() && Some("a").serialize(OnlyText).is_err());
/// ```
#[macro_export]
macro_rules! serializer_unsupported {
    (err = ($err:expr); $($kind:ident)*) => { $( $crate::unsupported!($kind, $err); )* };
}

/// One of them.
#[doc(hidden)]
#[macro_export]
macro_rules! unsupported {
    (bool, $err:expr) => { $crate::unsupported!(@plain $err, serialize_bool(bool)); };
    (i8, $err:expr) => { $crate::unsupported!(@plain $err, serialize_i8(i8)); };
    (i16, $err:expr) => { $crate::unsupported!(@plain $err, serialize_i16(i16)); };
    (i32, $err:expr) => { $crate::unsupported!(@plain $err, serialize_i32(i32)); };
    (i64, $err:expr) => { $crate::unsupported!(@plain $err, serialize_i64(i64)); };
    (i128, $err:expr) => { $crate::unsupported!(@plain $err, serialize_i128(i128)); };
    (u8, $err:expr) => { $crate::unsupported!(@plain $err, serialize_u8(u8)); };
    (u16, $err:expr) => { $crate::unsupported!(@plain $err, serialize_u16(u16)); };
    (u32, $err:expr) => { $crate::unsupported!(@plain $err, serialize_u32(u32)); };
    (u64, $err:expr) => { $crate::unsupported!(@plain $err, serialize_u64(u64)); };
    (u128, $err:expr) => { $crate::unsupported!(@plain $err, serialize_u128(u128)); };
    (f32, $err:expr) => { $crate::unsupported!(@plain $err, serialize_f32(f32)); };
    (f64, $err:expr) => { $crate::unsupported!(@plain $err, serialize_f64(f64)); };
    (char, $err:expr) => { $crate::unsupported!(@plain $err, serialize_char(char)); };
    (str, $err:expr) => { $crate::unsupported!(@plain $err, serialize_str(&str)); };
    (bytes, $err:expr) => { $crate::unsupported!(@plain $err, serialize_bytes(&[u8])); };
    (none, $err:expr) => { $crate::unsupported!(@plain $err, serialize_none()); };
    (unit, $err:expr) => { $crate::unsupported!(@plain $err, serialize_unit()); };
    (unit_struct, $err:expr) => { $crate::unsupported!(@plain $err, serialize_unit_struct(&'static str)); };
    (unit_variant, $err:expr) => {
        $crate::unsupported!(@plain $err, serialize_unit_variant(&'static str, u32, &'static str));
    };
    (some, $err:expr) => { $crate::unsupported!(@value $err, serialize_some()); };
    (newtype_struct, $err:expr) => { $crate::unsupported!(@value $err, serialize_newtype_struct(&'static str)); };
    (newtype_variant, $err:expr) => {
        $crate::unsupported!(@value $err, serialize_newtype_variant(&'static str, u32, &'static str));
    };
    (seq, $err:expr) => { $crate::unsupported!(@compound $err, SerializeSeq, serialize_seq(Option<usize>)); };
    (tuple, $err:expr) => { $crate::unsupported!(@compound $err, SerializeTuple, serialize_tuple(usize)); };
    (tuple_struct, $err:expr) => {
        $crate::unsupported!(@compound $err, SerializeTupleStruct, serialize_tuple_struct(&'static str, usize));
    };
    (tuple_variant, $err:expr) => {
        $crate::unsupported!(@compound $err, SerializeTupleVariant,
            serialize_tuple_variant(&'static str, u32, &'static str, usize));
    };
    (map, $err:expr) => { $crate::unsupported!(@compound $err, SerializeMap, serialize_map(Option<usize>)); };
    (struct, $err:expr) => {
        $crate::unsupported!(@compound $err, SerializeStruct, serialize_struct(&'static str, usize));
    };
    (struct_variant, $err:expr) => {
        $crate::unsupported!(@compound $err, SerializeStructVariant,
            serialize_struct_variant(&'static str, u32, &'static str, usize));
    };
    (@plain $err:expr, $method:ident($($of:ty),*)) => {
        fn $method(self, $(_: $of),*) -> ::core::result::Result<Self::Ok, Self::Error> {
            ::core::result::Result::Err($err)
        }
    };
    (@value $err:expr, $method:ident($($of:ty),*)) => {
        fn $method<T: ?Sized + $crate::serde::Serialize>(
            self,
            $(_: $of,)*
            _: &T,
        ) -> ::core::result::Result<Self::Ok, Self::Error> {
            ::core::result::Result::Err($err)
        }
    };
    (@compound $err:expr, $type:ident, $method:ident($($of:ty),*)) => {
        type $type = $crate::serde::ser::Impossible<Self::Ok, Self::Error>;

        fn $method(self, $(_: $of),*) -> ::core::result::Result<Self::$type, Self::Error> {
            ::core::result::Result::Err($err)
        }
    };
}
