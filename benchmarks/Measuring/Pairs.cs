namespace Platter.Bench.Measuring;

/// <summary>Runs two or more sides in turn (A B, B A, A B …), so that whatever else happens on the machine meets all of them.</summary>
internal static class Pairs
{
    /// <returns>For each side, its results by round: results of one index were measured side by side.</returns>
    public static T[][] Run<T>(int rounds, params Func<T>[] sides)
    {
        var results = sides.Select(_ => new T[rounds]).ToArray();
        for (var round = 0; round < rounds; round++)
        {
            for (var i = 0; i < sides.Length; i++)
            {
                var side = round % 2 == 0 ? i : sides.Length - 1 - i;
                results[side][round] = sides[side]();
            }
        }

        return results;
    }

    /// <summary>Ratios of results that were measured side by side.</summary>
    public static Spread Ratios<T>(T[] ours, T[] peers, Func<T, double> figure) =>
        Spread.Of(ours.Zip(peers, (a, b) => figure(a) / figure(b)));
}
