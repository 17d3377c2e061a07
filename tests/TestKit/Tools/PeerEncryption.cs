using Xunit;

namespace Platter.TestKit;

/// <summary>Encrypted images of the peer. It measures how fast this machine is and gives up, now and then, when the clock of the machine is too coarse to tell.</summary>
public static class PeerEncryption
{
    private const int Tries = 20;

    /// <summary>Runs <c>qemu-img create</c> until it could measure; fails the test on any other error and skips it when no try was enough.</summary>
    /// <param name="arguments">What follows <c>qemu-img create -q -f qcow2</c>.</param>
    public static void Create(params string[] arguments)
    {
        for (var tries = 1; ; tries++)
        {
            var result = ToolRunner.Run("qemu-img", ["create", "-q", "-f", "qcow2", .. arguments]);
            if (!result.Error.Contains("accurate CPU usage", StringComparison.Ordinal))
            {
                result.Expect();
                return;
            }

            if (tries == Tries)
            {
                Assert.Skip("qemu-img: " + result.Error);
            }
        }
    }
}
