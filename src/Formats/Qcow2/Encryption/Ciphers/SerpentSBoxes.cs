using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Platter.Formats.Qcow2.Encryption.Ciphers;

/// <summary>The S-boxes of Serpent and their inverses as logic on bits: word i of the operands holds bit i of many nibbles.</summary>
/// <remarks>Each was derived from the table in the cipher's specification by a search for four to six products of linear
/// forms that span its outputs; a test holds every one against its table.</remarks>
internal static class SerpentSBoxes
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S0(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a & d;
        var t1 = d ^ a;
        var t2 = b ^ a;
        var t3 = t1 | t2;
        var t4 = b ^ t0;
        var t5 = c ^ d;
        var t6 = t4 ^ t5;
        var t7 = t3 ^ t6;
        var t8 = c ^ t4;
        var t9 = Vector256.AndNot(t8, t7);
        var t10 = c ^ t3;
        var t11 = t0 ^ t9 ^ t10;
        var t12 = t9 ^ t2;
        var t13 = t7 | c;
        var t14 = t13 ^ t5 ^ t2;
        var t15 = a ^ t6;
        (a, b, c, d) = (~t11, ~t12, t14, t15);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S1(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a ^ b;
        var t1 = Vector256.AndNot(d, t0);
        var t2 = c ^ d;
        var t3 = t1 ^ b;
        var t4 = t2 | t3;
        var t5 = a ^ c ^ t1 ^ t4;
        var t6 = a ^ b;
        var t7 = t6 & a;
        var t8 = a ^ t7;
        var t9 = t2 ^ t8;
        var t10 = t1 ^ t9;
        var t11 = c ^ t7;
        var t12 = Vector256.AndNot(t10, t11);
        var t13 = a ^ t12 ^ t2;
        var t14 = b ^ t9;
        var t15 = t12 ^ t8 ^ t3;
        (a, b, c, d) = (~t5, ~t13, ~t14, ~t15);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S2(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = b ^ c;
        var t1 = a & c;
        var t2 = d ^ t1;
        var t3 = t0 ^ t2;
        var t4 = d & a;
        var t5 = b ^ d ^ t4;
        var t6 = t5 & t0;
        var t7 = a ^ b;
        var t8 = t2 & t7;
        var t9 = a ^ t1;
        var t10 = t8 ^ t9;
        var t11 = c ^ t6 ^ t10;
        var t12 = a ^ d ^ t6;
        var t13 = t4 ^ t0 ^ t10;
        (a, b, c, d) = (t3, t11, t12, ~t13);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S3(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a ^ b;
        var t1 = t0 & d;
        var t2 = c ^ d;
        var t3 = b ^ t2;
        var t4 = Vector256.AndNot(t3, b);
        var t5 = b ^ t1;
        var t6 = Vector256.AndNot(t5, t1);
        var t7 = c ^ t4;
        var t8 = b ^ t7;
        var t9 = t8 & a;
        var t10 = t9 ^ t0;
        var t11 = t4 ^ t6 ^ t10;
        var t12 = t1 ^ t2;
        var t13 = Vector256.AndNot(t12, t11);
        var t14 = t13 ^ t10;
        var t15 = t2 ^ t14;
        var t16 = t15 & t7;
        var t17 = t1 ^ t16;
        var t18 = t0 ^ t17;
        var t19 = d ^ t13 ^ t18;
        var t20 = a ^ t9 ^ t12;
        var t21 = c ^ t17 ^ t14;
        (a, b, c, d) = (t18, t19, t20, t21);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S4(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = c ^ d;
        var t1 = t0 & a;
        var t2 = a ^ b;
        var t3 = Vector256.AndNot(c, t2);
        var t4 = t1 ^ t2;
        var t5 = c ^ t3 ^ t4;
        var t6 = t5 & b;
        var t7 = t1 ^ t6;
        var t8 = b ^ t3 ^ d;
        var t9 = Vector256.AndNot(d, t8);
        var t10 = a ^ t3;
        var t11 = t9 & t10;
        var t12 = t3 ^ t9;
        var t13 = t11 ^ t12;
        var t14 = d ^ t7 ^ t13;
        var t15 = a ^ t12 ^ t0;
        var t16 = t9 ^ t4;
        var t17 = d ^ t2;
        var t18 = t16 & t17;
        var t19 = c ^ t18 ^ t7;
        var t20 = t4 ^ t13;
        (a, b, c, d) = (~t14, t15, t19, t20);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S5(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a ^ b;
        var t1 = b ^ d;
        var t2 = Vector256.AndNot(t1, t0);
        var t3 = b ^ t2;
        var t4 = c ^ t3;
        var t5 = c & d;
        var t6 = c ^ t5;
        var t7 = d ^ t3;
        var t8 = t7 & a;
        var t9 = t2 ^ t8;
        var t10 = a ^ t6 ^ t9;
        var t11 = d ^ t5;
        var t12 = t9 ^ t11;
        var t13 = t5 | t12;
        var t14 = a ^ t3;
        var t15 = t14 ^ t6;
        var t16 = a & t15;
        var t17 = t8 ^ t16;
        var t18 = t14 ^ t17;
        var t19 = t13 ^ t18;
        var t20 = d ^ t2;
        var t21 = t18 ^ t11;
        var t22 = t20 & t21;
        var t23 = t13 ^ t22 ^ t15;
        (a, b, c, d) = (~t4, ~t10, ~t19, ~t23);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S6(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = d & a;
        var t1 = c ^ t0;
        var t2 = b ^ t1;
        var t3 = a ^ d;
        var t4 = Vector256.AndNot(t3, t2);
        var t5 = a ^ b;
        var t6 = t4 ^ t5;
        var t7 = d ^ t5;
        var t8 = t1 ^ t7;
        var t9 = t6 & t8;
        var t10 = t9 ^ t1;
        var t11 = t6 ^ t10;
        var t12 = t10 & t11;
        var t13 = t12 ^ t7;
        var t14 = t4 ^ t12;
        var t15 = d ^ t14;
        var t16 = t9 ^ t12;
        (a, b, c, d) = (~t13, ~t2, ~t15, t16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void S7(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = b ^ c;
        var t1 = Vector256.AndNot(t0, a);
        var t2 = b ^ t1 ^ a;
        var t3 = t2 | d;
        var t4 = t3 ^ t0;
        var t5 = c ^ t1;
        var t6 = Vector256.AndNot(t5, t4);
        var t7 = a ^ t3;
        var t8 = d ^ t7;
        var t9 = t6 ^ t8;
        var t10 = b ^ d;
        var t11 = t10 | c;
        var t12 = c ^ t11 ^ t8;
        var t13 = t1 ^ t11;
        var t14 = d ^ t13;
        var t15 = a ^ t0 ^ t14;
        var t16 = t7 | t15;
        var t17 = t16 ^ t14;
        var t18 = t16 ^ t6 ^ t13;
        (a, b, c, d) = (~t9, t12, t17, t18);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse0(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = b ^ d;
        var t1 = a ^ t0;
        var t2 = Vector256.AndNot(d, t1);
        var t3 = a ^ d;
        var t4 = Vector256.AndNot(t3, t0);
        var t5 = c ^ t4;
        var t6 = t2 & t5;
        var t7 = b ^ t5;
        var t8 = t7 & t0;
        var t9 = a ^ t8;
        var t10 = t6 ^ t9;
        var t11 = t10 ^ t7;
        var t12 = a ^ t2 ^ t0;
        var t13 = c ^ d;
        var t14 = t12 & t13;
        var t15 = t14 ^ t9 ^ t13;
        var t16 = t2 ^ t0 ^ t5;
        var t17 = t0 ^ t10;
        (a, b, c, d) = (~t11, t15, ~t16, ~t17);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse1(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a ^ d;
        var t1 = t0 & b;
        var t2 = b ^ a;
        var t3 = d ^ t2;
        var t4 = Vector256.AndNot(a, t3);
        var t5 = t4 ^ t2;
        var t6 = Vector256.AndNot(c, t5);
        var t7 = t1 ^ t6;
        var t8 = c ^ d;
        var t9 = t6 ^ t8;
        var t10 = Vector256.AndNot(d, a);
        var t11 = t10 ^ t1;
        var t12 = t9 ^ t11;
        var t13 = t7 & t12;
        var t14 = t13 ^ t2;
        var t15 = b ^ t4 ^ t13 ^ t8;
        var t16 = t2 ^ t9;
        var t17 = a ^ c ^ t4 ^ t11;
        (a, b, c, d) = (~t14, t15, ~t16, t17);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse2(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = c ^ d;
        var t1 = t0 & b;
        var t2 = b ^ c;
        var t3 = a ^ t2;
        var t4 = t1 ^ t3;
        var t5 = Vector256.AndNot(t2, d);
        var t6 = c ^ t5;
        var t7 = a ^ t6;
        var t8 = a ^ d;
        var t9 = Vector256.AndNot(t7, t8);
        var t10 = b ^ t5 ^ t9;
        var t11 = t9 ^ d;
        var t12 = t3 ^ t11;
        var t13 = t5 ^ t4;
        var t14 = d ^ t1;
        var t15 = t13 & t14;
        var t16 = t15 ^ t11 ^ t6;
        (a, b, c, d) = (t4, t10, ~t12, ~t16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse3(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a ^ d;
        var t1 = b ^ d;
        var t2 = a ^ t1;
        var t3 = Vector256.AndNot(t0, t2);
        var t4 = c ^ t3;
        var t5 = d ^ t4;
        var t6 = Vector256.AndNot(b, t5);
        var t7 = a ^ b ^ t3 ^ t6;
        var t8 = t7 & t1;
        var t9 = a ^ t8 ^ t5;
        var t10 = t6 ^ t8;
        var t11 = t3 ^ t10;
        var t12 = b ^ t4;
        var t13 = a ^ t4;
        var t14 = t12 & t13;
        var t15 = c ^ t14;
        var t16 = Vector256.AndNot(t11, t15);
        var t17 = t16 ^ t5;
        var t18 = t1 ^ t11;
        var t19 = t6 ^ t14;
        var t20 = Vector256.AndNot(t18, t19);
        var t21 = t14 ^ t20;
        var t22 = c ^ d ^ t21;
        var t23 = t16 ^ t10 ^ t21 ^ t2;
        (a, b, c, d) = (t9, t17, t22, t23);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse4(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = c ^ a;
        var t1 = d ^ t0;
        var t2 = Vector256.AndNot(a, t1);
        var t3 = b ^ t2;
        var t4 = b ^ c;
        var t5 = t2 & t4;
        var t6 = b ^ t5 ^ a;
        var t7 = Vector256.AndNot(t3, t6);
        var t8 = a ^ t5;
        var t9 = d & t8;
        var t10 = d ^ t9;
        var t11 = c ^ t7;
        var t12 = t2 ^ t11;
        var t13 = a ^ d;
        var t14 = t12 & t13;
        var t15 = b ^ t14;
        var t16 = t15 ^ t0;
        var t17 = t7 ^ t10 ^ t16;
        var t18 = t10 ^ t11;
        var t19 = t2 ^ t15;
        var t20 = t13 ^ t19;
        var t21 = t2 ^ t5 ^ t10;
        var t22 = t20 & t21;
        var t23 = t22 ^ t16;
        var t24 = c ^ t19;
        (a, b, c, d) = (~t17, t18, ~t23, t24);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse5(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = b ^ c;
        var t1 = a ^ d;
        var t2 = Vector256.AndNot(d, t1);
        var t3 = t0 ^ t2;
        var t4 = Vector256.AndNot(b, t3);
        var t5 = t4 ^ t1;
        var t6 = Vector256.AndNot(t0, a);
        var t7 = t2 ^ t6;
        var t8 = a ^ b ^ t2;
        var t9 = c ^ t7;
        var t10 = d ^ t9;
        var t11 = t8 & t10;
        var t12 = t11 ^ t7;
        var t13 = t12 & t0;
        var t14 = t13 ^ t9;
        var t15 = b & t14;
        var t16 = t13 ^ t15;
        var t17 = b ^ t7 ^ t1 ^ t16;
        var t18 = t4 ^ t16;
        var t19 = a ^ t6 ^ t11 ^ t0 ^ t18;
        var t20 = t18 ^ t2;
        (a, b, c, d) = (t5, t17, t19, ~t20);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse6(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = c & a;
        var t1 = d ^ t0;
        var t2 = a ^ t1;
        var t3 = c ^ t1;
        var t4 = t2 & t3;
        var t5 = c ^ t4;
        var t6 = t2 ^ t5;
        var t7 = t6 & b;
        var t8 = t2 ^ t7;
        var t9 = b ^ c ^ t1;
        var t10 = t5 ^ t7;
        var t11 = b ^ t6;
        var t12 = Vector256.AndNot(t11, t10);
        var t13 = t4 ^ t12 ^ t1;
        var t14 = b ^ t10;
        (a, b, c, d) = (~t8, ~t9, ~t13, ~t14);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Inverse7(ref Vector256<uint> a, ref Vector256<uint> b, ref Vector256<uint> c, ref Vector256<uint> d)
    {
        var t0 = a ^ c;
        var t1 = t0 & a;
        var t2 = d ^ t1;
        var t3 = b ^ t2;
        var t4 = a ^ t3;
        var t5 = c ^ t3;
        var t6 = Vector256.AndNot(t5, t2);
        var t7 = b ^ t6;
        var t8 = t4 & t7;
        var t9 = a ^ d;
        var t10 = t2 & t9;
        var t11 = t6 ^ t10;
        var t12 = t8 ^ t11;
        var t13 = c ^ t12;
        var t14 = d ^ t13;
        var t15 = d ^ t10;
        var t16 = t9 & t15;
        var t17 = c ^ t1 ^ t16;
        var t18 = t16 ^ t2 ^ t13;
        var t19 = t17 & t18;
        var t20 = b ^ t19;
        var t21 = a ^ t16;
        var t22 = t20 ^ t21;
        var t23 = t12 ^ t22;
        var t24 = t1 ^ t10 ^ t20;
        var t25 = t2 ^ t11 ^ t22;
        (a, b, c, d) = (~t14, ~t23, t24, t25);
    }
}
