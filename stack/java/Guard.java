// Ends this JVM as soon as the process that started it is gone, however it went: its end of our standard input closes.
// The data folder named in -Dlogpipe.removeOnOrphan goes with it, because nobody is left who could remove it; and with the
// last of several, the folder they share, when only the state file is left in it. A byte on standard input lets the JVM go:
// from then on it outlives its parent.
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.stream.Stream;

final class Guard {
    private Guard() {}

    static void watchParent() {
        if (!Boolean.getBoolean("logpipe.guard")) return;
        Thread thread = new Thread(() -> {
            try {
                if (System.in.read() >= 0) return;
            } catch (IOException closed) {
                // a broken pipe means the same
            }
            String folder = System.getProperty("logpipe.removeOnOrphan");
            // Twice: the server may have written a file while its folder was being removed.
            for (int round = 0; folder != null && round < 2; round++) remove(Path.of(folder));
            if (folder != null && Boolean.getBoolean("logpipe.removeStack")) removeStack(Path.of(folder).getParent());
            Runtime.getRuntime().halt(1);
        }, "logpipe-guard");
        thread.setDaemon(true);
        thread.start();
    }

    /** Unless another command works on it by now: its number stands in the lock file. */
    private static void removeStack(Path stack) {
        Path lock = stack.resolveSibling(stack.getFileName() + ".lock");
        try {
            if (ProcessHandle.of(Long.parseLong(Files.readString(lock).trim())).isPresent()) return;
        } catch (Exception none) {
            // no lock, or not a number: nobody works on it
        }
        try (Stream<Path> left = Files.list(stack)) {
            if (!left.allMatch(path -> path.getFileName().toString().startsWith("state.json"))) return;
        } catch (IOException gone) {
            return;
        }
        remove(stack);
        try {
            Files.deleteIfExists(lock);
        } catch (IOException inUse) {
            // the next command takes it over
        }
    }

    private static void remove(Path folder) {
        try (Stream<Path> paths = Files.walk(folder)) {
            paths.sorted(Comparator.reverseOrder()).forEach(path -> {
                try {
                    Files.deleteIfExists(path);
                } catch (IOException inUse) {
                    // the next round may succeed
                }
            });
        } catch (Exception gone) {
            // removed in the meantime
        }
    }
}
